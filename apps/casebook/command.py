"""The command line of the casebook."""

import argparse
import logging
from collections.abc import Sequence

from emma_viz.cli.guard import guarded
from emma_viz.errors import InputError

_PORTS = range(8501, 8601)


def casebook_parser() -> argparse.ArgumentParser:
    """The options of `emma-viz casebook`."""
    found = argparse.ArgumentParser(
        prog="emma-viz casebook",
        description="Open a casebook in the browser: filter its cases, see the evidence, write verdicts.",
    )
    found.add_argument(
        "--casebook",
        default="casebook.db",
        metavar="FILE|URL",
        help="an SQLite file, made if it is missing, or the URL of a database, as "
        "postgresql+psycopg://user@host/name (default: casebook.db)",
    )
    found.add_argument(
        "--models",
        nargs="+",
        default=[],
        metavar="NAME=SOURCE",
        help="where the weights of models are, by their names in the casebook, to draw maps of cases without a study "
        "(bundled models are found by their names)",
    )
    found.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine alone)"
    )
    found.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name under which the page is also served, such as that of a proxy; may be given again (default: this "
        "machine's own names and --host)",
    )
    found.add_argument("--port", type=int, help="(default: the first free one from 8501)")
    found.add_argument("--open", action="store_true", help="open the page in the browser")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the casebook until interrupted.

    Returns:
        0, or 1 when it could not start.
    """
    return guarded(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    args = casebook_parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    from apps.casebook.server import free_port, serve_casebook
    from emma_viz.cases.casebook import Casebook

    Casebook.open(args.casebook).close()  # what is wrong with it is said here, too
    port = args.port if args.port is not None else free_port(args.host, _PORTS)
    models = dict(_named(each) for each in args.models)
    serve_casebook(
        args.casebook, models=models, host=args.host, port=port, allowed=args.allow_host, show=args.open
    )
    return 0


def _named(text: str) -> tuple[str, str]:
    name, sign, source = text.partition("=")
    if not (name and sign and source):
        raise InputError(f"--models: expected NAME=SOURCE, such as cobra=runs/cobra; got {text!r:.100}.")
    return name, source
