"""`emma-viz inspect`: what a checkpoint holds, without loading it."""

import argparse

from emma_viz.cli.wording import in_options

HELP = "print a checkpoint's format, architecture, parameters, what it lacks, and which lens fits"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this sub-command."""
    parser.add_argument(
        "source", metavar="PATH", help="a run directory, a weight file, a bundled name or a hub id"
    )
    parser.add_argument(
        "--config", metavar="PRESET", help="the architecture of a weight file that stands alone"
    )
    parser.add_argument(
        "--lens", nargs="*", metavar="LENS", default=[], help="lens files to try, besides the model's own"
    )
    parser.add_argument(
        "--all-values",
        action="store_true",
        help="look at all values, as loading does; else at a sample of those of a file above 256 MB",
    )


def run(args: argparse.Namespace) -> int:
    """Print the inspection."""
    from emma_viz import session

    inspection = session.inspection_of(
        args.source, config=args.config, lenses=args.lens, all_values=args.all_values
    )
    print(in_options(inspection.to_text()))
    return 1 if inspection.problems else 0
