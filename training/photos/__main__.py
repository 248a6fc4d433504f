"""Train the pair that knows photographs.

    python -m training.photos train cobra-photo --photos DIR --weights FILE --work DIR [--seed 1]
    python -m training.photos measure cobra-photo --photos DIR --work DIR [--seed 1]

A run that was stopped goes on where its last checkpoint was. See docs/training.md.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from emma_viz.cli.guard import guarded
from emma_viz.cli.options import path
from emma_viz.errors import TrainingError
from emma_viz.files.room import require_writable
from training.photos.recipe import PHOTO_MEMBERS
from training.photos.work import PhotoWork

_MODULE = "python -m training.photos"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the process's exit code."""
    return guarded(lambda: _run(_parser().parse_args(arguments)), program=_MODULE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_MODULE, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (
        ("train", "train a member"),
        ("measure", "its answers about test photographs and scenes"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("member", choices=tuple(PHOTO_MEMBERS))
        command.add_argument(
            "--photos", type=path, required=True, metavar="DIR", help="Caltech-101's folders"
        )
        command.add_argument(
            "--weights", type=path, metavar="FILE", help="published .pth of EfficientNet-Lite0"
        )
        command.add_argument("--work", type=path, default=Path("runs/photos"), help="work folder")
        command.add_argument("--seed", type=int, default=0)
    return parser


def _run(options: argparse.Namespace) -> None:
    require_writable(options.work, folder=True, error=TrainingError)
    work = PhotoWork(options.work, options.photos, options.weights)
    task = work.train(options.member, seed=options.seed)
    if options.command == "measure":
        count = work.recipe.test_pictures
        pictures = work.pictures("test", singles=count, scenes=count)
        print(json.dumps(work.scores(task, pictures), indent=2))


if __name__ == "__main__":
    sys.exit(main())
