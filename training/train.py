"""Train the pocket family: `python -m training.train pocket-pair`, or one stage of it.

    python -m training.train pocket-pair                      everything, from nothing to the bundled files
    python -m training.train encoder --recipe pocket-pair     the vision encoder alone
    python -m training.train text --recipe pocket-pair        the language model, on text alone
    python -m training.train joint --recipe cobra-pocket      one member, with the stages that it needs
    python -m training.train joint --recipe tiny              the same in under a minute, to try it out

Results are kept in the work folder: a run that was stopped goes on where its last checkpoint was.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from emma_viz.errors import EmmaVizError
from training.recipes import FAMILIES, MEMBERS, family_of
from training.stages import Work, train_members


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the process's exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, choices, default in (
        ("encoder", tuple(FAMILIES), "pocket-pair"),
        ("text", tuple(FAMILIES), "pocket-pair"),
        ("joint", MEMBERS, None),
    ):
        command = commands.add_parser(name, help=f"the {name} stage")
        command.add_argument("--recipe", choices=choices, default=default, required=default is None)
        command.add_argument("--work", type=Path, help="work folder (default: runs/<recipe>)")
    pair = commands.add_parser("pocket-pair", help="all stages, lenses and the bundle")
    pair.add_argument("--work", type=Path, help="work folder (default: runs/pocket-pair)")
    pair.add_argument("--bundle", type=Path, help="where the finished models go (default: into the package)")
    options = parser.parse_args(arguments)
    try:
        _run(options)
    except EmmaVizError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    if options.command == "joint":
        work = Work(options.work or Path("runs") / options.recipe, family_of(options.recipe))
        work.joint(options.recipe)
    elif options.command in ("encoder", "text"):
        work = Work(options.work or Path("runs") / options.recipe, FAMILIES[options.recipe]())
        _ = work.encoder if options.command == "encoder" else work.language_model
    else:
        from training.bundle import bundle_family

        work = Work(options.work or Path("runs/pocket-pair"), FAMILIES["pocket-pair"]())
        _ = work.encoder
        train_members(work, list(work.recipe.members))
        bundle_family(work, options.bundle)


if __name__ == "__main__":
    sys.exit(main())
