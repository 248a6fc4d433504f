"""Train the pair that knows photographs.

    python -m training.photos pair --photos DIR --weights FILE --work DIR      both, their lenses, and the bundle
    python -m training.photos train cobra-photo --photos DIR --weights FILE --work DIR     one of them alone
    python -m training.photos pair --photos DIR --seed 1 --start BUNDLE --work DIR     another seed of that bundle's

A run that was stopped goes on where its last checkpoint was. `python -m training.results BUNDLE --photos DIR`
measures a bundle. See docs/training.md.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from emma_viz.cli.guard import guarded
from emma_viz.cli.options import path
from emma_viz.errors import TrainingError
from emma_viz.files.room import require_writable
from training.photos.bundle import COMMAND, bundle_pair, start_from_bundle
from training.photos.recipe import PHOTO_MEMBERS
from training.photos.work import PhotoWork
from training.pocket.stages import run_name, side_by_side

_NAME = "training.photos"
_MODULE = f"python -m {_NAME}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the process's exit code."""
    return guarded(lambda: _run(_parser().parse_args(arguments)), program=_MODULE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_MODULE, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a member")
    train.add_argument("member", choices=tuple(PHOTO_MEMBERS))
    pair = commands.add_parser("pair", help="train both members, fit their lenses, write the bundle")
    pair.add_argument(
        "--bundle", type=path, metavar="DIR", help="where the models go (default: bundle in the work folder)"
    )
    for command in (train, pair):
        command.add_argument(
            "--photos", type=path, required=True, metavar="DIR", help="Caltech-101's folders"
        )
        command.add_argument(
            "--weights", type=path, metavar="FILE", help="published .pth of EfficientNet-Lite0"
        )
        command.add_argument(
            "--start", type=path, metavar="BUNDLE", help="take encoder and tokenizer from there"
        )
        command.add_argument("--work", type=path, default=Path("runs/photos"), help="work folder")
        command.add_argument("--seed", type=int, default=0)
    return parser


def retraining(*, seed: int, start: bool) -> str:
    """The command that trains a bundle again in an empty work folder, as members' provenance has it; `start`: whether
    encoder and tokenizer came from another bundle."""
    chosen = f" --seed {seed}" if seed else ""
    return f"{COMMAND} --photos DIR{chosen} {'--start BUNDLE' if start else '--weights FILE'}"


def _run(options: argparse.Namespace) -> None:
    require_writable(options.work, folder=True, error=TrainingError)
    work = PhotoWork(options.work, options.photos, options.weights)
    if options.start is not None:
        start_from_bundle(work, options.start)
    if options.command == "train":
        work.train(options.member, seed=options.seed)
        return
    bundle = options.bundle or options.work / run_name("bundle", options.seed)
    require_writable(bundle, folder=True, error=TrainingError)
    work.require_recipes(tuple(PHOTO_MEMBERS), seed=options.seed)
    work.training_pictures.every()
    train = [
        f"--photos={options.photos.resolve()}",
        f"--work={options.work.resolve()}",
        f"--seed={options.seed}",
    ]
    side_by_side(_NAME, [["train", member, *train] for member in PHOTO_MEMBERS])
    command = retraining(seed=options.seed, start=options.start is not None)
    written = bundle_pair(work, tuple(PHOTO_MEMBERS), bundle, command=command, seed=options.seed)
    print(f"wrote {written}: {', '.join(PHOTO_MEMBERS)}")


if __name__ == "__main__":
    sys.exit(main())
