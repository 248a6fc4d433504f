"""`emma-viz compare`: a report of a decoded study, without the models."""

import argparse

from emma_viz.cli import options
from emma_viz.cli.terminal import one_line

HELP = "draw or report what the models of a decoded study still hold, without the models"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this sub-command."""
    parser.add_argument(
        "study", type=options.path, metavar="STUDY", help="a folder made by `emma-viz capture` and `decode`"
    )
    parser.add_argument(
        "--entries", nargs="+", metavar="NAME", help="which of its entries, in this order (default: all)"
    )
    parser.add_argument(
        "--samples",
        nargs="+",
        type=int,
        metavar="N",
        help="which of its questions, by number from 0, in this order (default: all)",
    )
    options.add_view(parser)


def run(args: argparse.Namespace) -> int:
    """Write the report (HTML by default) and print the fidelity per layer."""
    from emma_viz import session

    outs = args.out or [args.study.with_name(f"{args.study.name}-report.html")]
    views = [options.view(args, out) for out in outs]
    for out in outs:
        session.check_output(out, recipe=args.recipe)
    comparison = session.compare_study(args.study, entries=args.entries, samples=args.samples)
    print(session.scores_table(comparison.decodings))
    for out, view in zip(outs, views, strict=True):
        spec = comparison.spec(view)
        for path in session.write_picture(spec, out, recipe=args.recipe):
            print(f"wrote {one_line(path)}")
    return 0
