"""`emma-viz models`: what can be loaded by name."""

import argparse

HELP = "list the models that can be loaded by name"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The one option."""
    parser.add_argument("--all", action="store_true", help="also the families of models, and what each is")


def run(args: argparse.Namespace) -> int:
    """Print one line a model."""
    from emma_viz import session

    print(session.models_table())
    if args.all:
        tables = (
            session.families_table(),
            session.peers_table(),
            session.sizes_table(),
            session.unsupported_table(),
        )
        print("\n" + "\n\n".join(tables))
    return 0
