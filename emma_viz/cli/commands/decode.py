"""`emma-viz decode`: turn a study's states into pixels, without the models."""

import argparse

from emma_viz.cli import options

HELP = "turn the states kept in a study into pixels, with a lens and without the models"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this sub-command."""
    parser.add_argument(
        "study", type=options.path, metavar="STUDY", help="a folder made by `emma-viz capture`"
    )
    parser.add_argument("--entries", nargs="+", metavar="NAME", help="which of its entries (default: all)")
    options.add_lens(parser, fits=False)


def run(args: argparse.Namespace) -> int:
    """Decode, store the pixels in the study, and print the fidelity per layer."""
    from emma_viz import session
    from emma_viz.cli.progress import ProgressBars

    with ProgressBars() as bars:
        decodings = session.decode_study(
            args.study,
            entries=args.entries,
            lenses=args.lens,
            force_lens=args.force_lens,
            progress=bars,
        )
    print(session.scores_table(decodings))
    return 0
