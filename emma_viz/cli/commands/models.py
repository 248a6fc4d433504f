"""`emma-viz models`: what can be loaded by name."""

import argparse

HELP = "list the models that can be loaded by name"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This sub-command has no options."""


def run(args: argparse.Namespace) -> int:
    """Print one line a model."""
    from emma_viz import session

    print(session.models_table())
    return 0
