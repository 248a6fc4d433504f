"""The entry point: builds the parser, runs one sub-command, turns errors into one sentence and an exit code."""

import argparse
import itertools
import logging
import os
import sys
from collections.abc import Sequence

from emma_viz.cli import programs
from emma_viz.cli.commands import benchmark, capture, cases, compare, decode, figure, fit, inspect, models
from emma_viz.cli.guard import guarded
from emma_viz.cli.notes import said_once

COMMANDS = {
    "figure": figure,
    "capture": capture,
    "decode": decode,
    "compare": compare,
    "benchmark": benchmark,
    "fit": fit,
    "cases": cases,
    "inspect": inspect,
    "models": models,
}
"""Sub-command → the module with its HELP, `add_arguments(parser)` and `run(args)`."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="emma-viz",
        description="See what a Mamba vision-language model's image tokens still hold, layer by layer.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    parser.add_argument("-v", "--verbose", action="store_true", help="log what is done; show tracebacks")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, module in COMMANDS.items():
        sub = subparsers.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    programs.add_parsers(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments after the program's name; those of the process when None.

    Returns:
        0 when all went well, 1 when emma_viz refused the task, 2 when the command line is wrong (argparse
        exits by itself then), 130 when interrupted, 141 when standard output was closed.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: _run(given))


def _run(argv: Sequence[str]) -> int:
    leading = list(itertools.takewhile(lambda each: each.startswith("-"), argv))
    name, *rest = argv[len(leading) :] or [""]
    parser = build_parser()
    # A program has options of its own, of which this parser knows none.
    args = parser.parse_args(leading if name in programs.PROGRAMS else argv)
    if args.version:
        from emma_viz import __version__

        print(f"emma-viz {__version__}")
        return 0
    if args.command is None and name not in programs.PROGRAMS:
        parser.print_help()
        return 0
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.WARNING, format="%(name)s: %(message)s"
    )
    with said_once():
        if args.command is None:
            return guarded(lambda: programs.run_program(name, rest), verbose=args.verbose)
        args.argv = rest
        return guarded(lambda: args.run(args), verbose=args.verbose)


def entry() -> None:
    """The console script."""
    # libgomp's threads spin between parallel regions unless told otherwise before torch is loaded; on a busy
    # machine that makes many small operations far slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    sys.exit(main())
