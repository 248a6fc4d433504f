"""The command line of the casebook."""

import argparse
import logging
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from emma_viz.cli import options
from emma_viz.cli.commands.cases import require_databases
from emma_viz.cli.guard import guarded
from emma_viz.cli.terminal import one_line
from emma_viz.errors import InputError

if TYPE_CHECKING:
    from emma_viz.cases.casebook import Casebook

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
        "--example",
        action="store_true",
        help="first add the cases that ship: the pocket pair on drawn scenes, charts and photographs",
    )
    found.add_argument(
        "--add",
        nargs="+",
        type=options.path,
        default=[],
        metavar="PATH",
        help="first add benchmark runs (folders of emma-viz benchmark), exported cases (folders, .zip), or, together "
        "as one run, logs of lmms-eval and tables of VLMEvalKit",
    )
    found.add_argument("--benchmark", default="", metavar="NAME", help="of added logs: which benchmark it is")
    found.add_argument(
        "--records",
        nargs="+",
        type=options.path,
        default=[],
        metavar="FILE",
        help="of added logs: the benchmark's own files",
    )
    found.add_argument(
        "--images", type=options.path, metavar="FOLDER", help="of added logs: the folder of its images"
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
        "--explorer",
        default="",
        metavar="ADDRESS",
        help="where emma-viz explore --casebook serves this casebook's images, to link there from each case "
        "(default: the page says how to start one here)",
    )
    options.add_serving(found, first_port=_PORTS.start)
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
    if args.explorer and not re.fullmatch(r"https?://[\w.:\[\]/-]+", args.explorer, re.ASCII):
        raise InputError(
            f"--explorer: expected an address, as http://127.0.0.1:7860; got {args.explorer!r:.100}."
        )
    require_databases()
    from apps.casebook.server import free_port, serve_casebook
    from emma_viz.cases.casebook import Casebook

    with Casebook.open(args.casebook) as casebook:  # what is wrong with it is said here, too
        _add(args, casebook)
        shown = casebook.where
    port = args.port if args.port is not None else free_port(args.host, _PORTS)
    models = dict(_named(each) for each in args.models)
    serve_casebook(
        args.casebook,
        models=models,
        host=args.host,
        port=port,
        allowed=args.allow_host,
        show=args.open,
        explorer=args.explorer,
        shown=shown,
    )
    return 0


def _add(args: argparse.Namespace, casebook: "Casebook") -> None:
    """Add what was asked for: of exports what lacks, of runs and logs the answers as they are now."""
    from emma_viz.cases.exchange import EXPORT_MARK, bundled_cases, import_cases
    from emma_viz.cases.gathering import gather_run
    from emma_viz.cli.progress import ProgressBars
    from emma_viz.session.benchmarks.importing import import_run

    given = [*args.add, *([bundled_cases()] if args.example else [])]
    exports = [path for path in given if path.suffix == ".zip" or (path / EXPORT_MARK).exists()]
    runs = [path for path in given if path.is_dir() and path not in exports]
    logs = [path for path in given if path not in (*exports, *runs)]
    if not logs and (args.benchmark or args.records or args.images):
        raise InputError(
            "--benchmark, --records and --images are of logs that are added (--add LOG), got no log; leave them out."
        )
    said: list[str] = []
    with ProgressBars() as bars, tempfile.TemporaryDirectory() as folder:
        if logs:
            import_run(
                logs,
                Path(folder) / "run",
                benchmark_name=args.benchmark,
                records=args.records,
                images=args.images,
            )
            runs.append(Path(folder) / "run")
        for path in exports:
            said += import_cases(casebook, path, progress=bars).complaints
        for path in runs:
            said += gather_run(casebook, path, progress=bars).complaints
    for complaint in said:
        print(f"left out: {one_line(complaint)}", file=sys.stderr)


def _named(text: str) -> tuple[str, str]:
    name, sign, source = text.partition("=")
    if not (name and sign and source):
        raise InputError(f"--models: expected NAME=SOURCE, such as cobra=runs/cobra; got {text!r:.100}.")
    return name, source
