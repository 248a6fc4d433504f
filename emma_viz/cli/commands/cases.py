"""`emma-viz cases`: questions that stand out, kept in a casebook."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from emma_viz.cli import options
from emma_viz.cli.terminal import one_line
from emma_viz.errors import InputError, MissingDependencyError
from emma_viz.session.options import DEFAULT_LENSES

if TYPE_CHECKING:
    from emma_viz.cases.casebook import Casebook
    from emma_viz.cases.filters import CaseFilter

HELP = "find the questions of a benchmark's run that stand out, and keep them, with what people judge, in a casebook"
DEFAULT_CASEBOOK = "casebook.db"
"""The file, in the current folder, that is opened when none is named."""
SHOWN_CASES = 50
"""Lines that `cases list` prints when no number is asked for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands of this one."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(
        name: str, help_text: str, act: Callable[[argparse.Namespace], int]
    ) -> argparse.ArgumentParser:
        sub = actions.add_parser(name, help=help_text, description=help_text)
        add_casebook(sub)
        sub.set_defaults(act=act)
        return sub

    mine = action("mine", "add benchmark runs; say which rules find how many cases", _mine)
    mine.add_argument(
        "runs", nargs="+", type=options.path, metavar="RUN", help="a folder of `emma-viz benchmark`"
    )
    _add_filter(action("list", "print the cases that pass a filter", _list)).add_argument(
        "--limit", type=int, default=SHOWN_CASES, metavar="N", help="at most so many (default: %(default)s)"
    )
    evidence = _add_filter(action("evidence", "measure what models held of what cases ask about", _evidence))
    evidence.add_argument("--limit", type=int, metavar="N", help="at most so many cases (default: all)")
    evidence.add_argument(
        "--lens",
        default=DEFAULT_LENSES[0],
        help="the kind of lens by which retention is measured (default: %(default)s)",
    )
    options.add_models(evidence, otherwise="of the bundled models those that answered")
    export = action("export", "write cases with their images, histories and evidence", _export)
    export.add_argument(
        "out", type=options.path, metavar="OUT", help="a new folder, or a name that ends in .zip"
    )
    _add_filter(export)
    report = action("report", "write cases as one HTML page or PDF, to send to others", _report)
    report.add_argument("out", type=options.path, metavar="OUT", help="a name that ends in .html or .pdf")
    report.add_argument(
        "--id", action="append", metavar="ID", help="these cases alone, by the begin of their ids"
    )
    report.add_argument(
        "--canvas",
        action="store_true",
        help="in a page of one case, every layer's decoded image and maps, of models that ship or their studies",
    )
    _add_filter(report)
    action("import", "add the cases of an export", _import).add_argument(
        "source", type=options.path, metavar="SOURCE", help="a folder or .zip of `emma-viz cases export`"
    )


def add_casebook(parser: argparse.ArgumentParser) -> None:
    """The option that says where cases are kept."""
    parser.add_argument(
        "--casebook",
        default=DEFAULT_CASEBOOK,
        metavar="FILE|URL",
        help="an SQLite file, which is made if it is missing by what adds to it, or the URL of a database, as "
        "postgresql+psycopg://user:password@host/name (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Run one action.

    Raises:
        MissingDependencyError: what keeps cases is not installed.
    """
    require_databases()
    return args.act(args)


def require_databases() -> None:
    """Make sure that what keeps cases is installed.

    Raises:
        MissingDependencyError: it is not.
    """
    for name in ("sqlalchemy", "alembic"):
        try:
            __import__(name)
        except ImportError as failure:
            raise MissingDependencyError(name, "keep cases", 'pip install "emma-viz[casebook]"') from failure


def _open(args: argparse.Namespace, *, make: bool = False) -> "Casebook":
    from emma_viz.cases.casebook import Casebook

    return Casebook.open(args.casebook, make=make)


def _mine(args: argparse.Namespace) -> int:
    from emma_viz.cases.filters import CaseFilter
    from emma_viz.cases.gathering import gather_run
    from emma_viz.cases.mining import MINING_RULES
    from emma_viz.cli.progress import ProgressBars

    with _open(args, make=True) as casebook:
        for folder in args.runs:
            with ProgressBars() as bars:
                found = gather_run(casebook, folder, progress=bars)
            added = found.added
            print(
                f"{one_line(folder)}: {added.cases} new questions, {added.answers} new answers "
                f"({added.replaced} in place of others), {found.pictures} new images"
            )
            for complaint in found.complaints:
                print(f"    left out: {one_line(complaint)}")
        rules = casebook.facets()["rule"]
        print(
            f"{casebook.count()} questions in {one_line(casebook.where)}, "
            f"{casebook.count(CaseFilter(mined=True))} of them cases:"
        )
        for name, rule in MINING_RULES.items():
            print(f"    {rules[name]:6d}  {name:28s} {rule.statement}")
    return 0


def _list(args: argparse.Namespace) -> int:
    with _open(args) as casebook:
        wanted = _filter(args, casebook)
        total = casebook.count(wanted)
        found = casebook.cases(casebook.ids(wanted, count=args.limit))
    for case in found:
        answers = "  ".join(
            f"{each.model}: {each.text[:40]}{'' if each.right is None else ' ✓' if each.right else ' ✗'}"
            for each in case.record.answers
        )
        verdict = f"  [{case.review.verdict}]" if case.review.verdict else ""
        print(
            one_line(f"{case.id[:12]}  {case.record.prompt[:80]}  ({case.record.truth})  {answers}{verdict}")
        )
    if total > len(found):
        print(f"… and {total - len(found)} more (--limit)")
    return 0


def _evidence(args: argparse.Namespace) -> int:
    from emma_viz.cli.progress import ProgressBars
    from emma_viz.session.evidence.keeping import keep_evidence_of

    with _open(args) as casebook, ProgressBars() as bars:
        wanted = _filter(args, casebook)
        ids = casebook.ids(wanted, count=args.limit)
        count = keep_evidence_of(
            casebook,
            ids,
            args.models or _bundled_of(casebook),
            lens=args.lens,
            running=options.running(args),
            say=lambda text: print(one_line(text)),
            progress=bars,
        )
    print(f"measured {count} answers of {len(ids)} cases")
    return 0


def _bundled_of(casebook: "Casebook") -> list[str]:
    """The bundled models that answered some case."""
    from emma_viz.checkpoints import bundled_names

    answered = sorted(casebook.facets()["model"])
    if not (found := [name for name in answered if name in bundled_names()]):
        raise InputError(
            f"{casebook.where}: expected answers of a bundled model, found those of {', '.join(answered) or 'none'}; "
            "name the models with --models."
        )
    return found


def _export(args: argparse.Namespace) -> int:
    from emma_viz.cases.exchange import export_cases
    from emma_viz.cli.progress import ProgressBars

    if args.out.exists():
        raise InputError(f"{args.out} is there already; give another name, or take it away.")
    with _open(args) as casebook, ProgressBars() as bars:
        wanted = _filter(args, casebook)
        count = export_cases(casebook, casebook.ids(wanted), args.out, progress=bars)
    print(f"wrote {count} cases to {one_line(args.out)}")
    return 0


def _report(args: argparse.Namespace) -> int:
    if args.id is not None and (
        filters := [f"--{name}" for name in _FILTERS if getattr(args, name) is not None]
    ):
        raise InputError(
            f"expected either --id or a filter, got --id and {', '.join(filters)}; leave one out: --id names its cases "
            "whatever else they are."
        )
    from emma_viz.session.case_report.writing import write_case_report

    with _open(args) as casebook:
        ids = casebook.ids(_filter(args, casebook))
        if args.id is not None:
            every = casebook.ids()
            if lacking := [
                each for each in args.id if not each or not any(id.startswith(each) for id in every)
            ]:
                raise InputError(
                    f"--id: no case of {one_line(casebook.where)} begins with {lacking[0]!r:.40}."
                )
            ids = [id for id in every if id.startswith(tuple(args.id))]
        count, notes = write_case_report(casebook, ids, args.out, canvas=args.canvas)
    for note in notes:
        print(one_line(note))
    print(f"wrote {count} cases to {one_line(args.out)}")
    return 0


def _import(args: argparse.Namespace) -> int:
    from emma_viz.cases.exchange import import_cases
    from emma_viz.cli.progress import ProgressBars

    with _open(args, make=True) as casebook, ProgressBars() as bars:
        found = import_cases(casebook, args.source, progress=bars)
    print(
        f"{found.cases} new questions, {found.answers} new answers, {found.events} new entries of histories"
    )
    for complaint in found.complaints:
        print(f"    left out: {one_line(complaint)}")
    return 0


def _add_filter(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    for name, metavar, text in (
        ("benchmark", "NAME", "of this benchmark"),
        ("split", "NAME", "of this split"),
        ("category", "NAME", "of this category"),
        ("rule", "RULE", "that this rule of the miner finds"),
        ("verdict", "VERDICT", "with this verdict; none: without any"),
        ("text", "WORDS", "with these words in the question, an answer, the object or a note"),
        ("sort", "ORDER", "number, newest, surest-mistake, gap, question or image"),
    ):
        parser.add_argument(f"--{name}", metavar=metavar, help=text)
    parser.add_argument(
        "--tag", action="append", metavar="TAG", help="with this tag (may come again: all of them)"
    )
    parser.add_argument("--all", action="store_true", help="all questions, not only what some rule finds")
    return parser


_FILTERS = ("benchmark", "split", "category", "rule", "verdict", "text", "sort", "tag")
"""Options of `_add_filter` that choose or order cases; `--all` chooses none."""


def _filter(args: argparse.Namespace, casebook: "Casebook") -> "CaseFilter":
    """What was asked for; a name that is none of the casebook's is a slip, and not an empty answer.

    Raises:
        InputError: there is such a name.
    """
    from emma_viz.cases.filters import CaseFilter
    from emma_viz.cases.mining import MINING_RULES

    given = {name: getattr(args, name) for name in _FILTERS if getattr(args, name) is not None}
    tags = tuple(given.pop("tag", ()))
    known = casebook.facets() | {"rule": MINING_RULES}
    asked = [(name, given[name]) for name in ("benchmark", "split", "category", "rule") if given.get(name)]
    for name, value in (*asked, *(("tag", tag) for tag in tags)):
        if value not in known[name]:
            there = ", ".join(map(one_line, sorted(known[name]))) or "none"
            raise InputError(
                f"--{name} {value!r:.80}: {one_line(casebook.where)} has no such {name}; known: {there:.400}."
            )
    return CaseFilter(mined=not args.all, tags=tags, **given)
