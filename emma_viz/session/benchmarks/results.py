"""The results of a run: its tables, made of its answers alone, and their files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emma_viz.data.provenance import dump_json
from emma_viz.errors import InputError
from emma_viz.files.atomic import write_files
from emma_viz.files.tables import csv_text
from emma_viz.records.answered import AnsweredRecord, AnsweredRun, RunAbout
from emma_viz.records.benchmarks import Benchmark, benchmark, names
from emma_viz.session.benchmarks.folder import DISAGREEMENTS
from emma_viz.session.benchmarks.sum_tables import sum_tables
from emma_viz.session.benchmarks.tables import Table, cell_json, comma_separated, latex, markdown
from emma_viz.session.benchmarks.verdict_tables import short_tables, verdict_tables

TABLES_SCHEMA = 1
"""Version of `table.json`."""
SHOWN_DISAGREEMENTS = 20
"""Rows of the disagreements that the Markdown and LaTeX have; `disagreements.csv` has all."""


def tables_of(run: AnsweredRun) -> list[Table]:
    """All tables of a run.

    Raises:
        RecordError: its answers cannot be read.
    """
    about = run.about
    return answered_tables(list(run.answers()), about.models, about.scorers, about.benchmark)


def answered_tables(
    records: Sequence[AnsweredRecord], models: Sequence[str], scorers: Sequence[str], name: str
) -> list[Table]:
    """All tables of some records.

    Args:
        records: each with an answer of every model, in the models' order.
        models: their names.
        scorers: by name; the first decides what is right.
        name: of the benchmark.
    """
    return [
        *verdict_tables(records, models, scorers),
        *short_tables(records, models, scorers[0]),
        *sum_tables(records, models, scorers[0], benchmark_of(name)),
    ]


def benchmark_of(name: str) -> Benchmark | None:
    """The benchmark of a name; None for a task that was run elsewhere and is none of ours."""
    return benchmark(name) if name in names() else None


def write_results(run: AnsweredRun, tables: Sequence[Table]) -> tuple[Path, ...]:
    """Write a run's tables into its folder: Markdown, CSV, JSON, LaTeX; the same run gives the same bytes."""
    brief = briefly(tables)
    texts = {
        "table.md": markdown(brief, _title(run.about), run.about.notes),
        "table.csv": comma_separated([table for table in tables if table.name != DISAGREEMENTS]),
        "table.json": dump_json(_about_json(run.about) | _tables_json(tables)),
        "table.tex": latex(brief),
    }
    texts |= {f"{table.name}.csv": _whole(table) for table in tables if table.name == DISAGREEMENTS}
    return _write(run.path, texts)


def write_tables(folder: Path, tables: Sequence[Table], title: str) -> tuple[Path, ...]:
    """Write tables of no run into a folder, which is made: Markdown, CSV, JSON, LaTeX.

    Raises:
        InputError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error.strerror or error}.") from error
    texts = {
        "table.md": markdown(tables, title),
        "table.csv": comma_separated(tables),
        "table.json": dump_json(_tables_json(tables)),
        "table.tex": latex(tables),
    }
    return _write(folder, texts)


def _write(folder: Path, texts: Mapping[str, str]) -> tuple[Path, ...]:
    files = {folder / name: text for name, text in texts.items()}
    write_files({path: _writer(text) for path, text in files.items()})
    return tuple(files)


def _writer(text: str):
    return lambda part: part.write_text(text, encoding="utf-8", newline="\n")


def _title(about: RunAbout) -> str:
    left_out = f", {len(about.complaints)} rows left out" if about.complaints else ""
    return f"{about.benchmark}: {about.records} questions to {', '.join(about.models)}{left_out}"


def briefly(tables: Sequence[Table]) -> list[Table]:
    """The tables with the first disagreements alone."""
    return [_brief(table) for table in tables]


def _brief(table: Table) -> Table:
    if table.name != DISAGREEMENTS or len(table.rows) <= SHOWN_DISAGREEMENTS:
        return table
    note = f"The first {SHOWN_DISAGREEMENTS}; all are in {DISAGREEMENTS}.csv."
    return Table(
        name=table.name,
        title=table.title,
        columns=table.columns,
        rows=table.rows[:SHOWN_DISAGREEMENTS],
        notes=(note,),
    )


def _about_json(about: RunAbout) -> dict[str, Any]:
    return {
        "benchmark": about.benchmark,
        "models": about.models,
        "scorers": about.scorers,
        "records": about.records,
        "complaints": about.complaints,
        "notes": about.notes,
    }


def _tables_json(tables: Sequence[Table]) -> dict[str, Any]:
    return {
        "schema": TABLES_SCHEMA,
        "tables": [
            {
                "name": table.name,
                "title": table.title,
                "columns": table.columns,
                "rows": [[cell_json(cell) for cell in row] for row in table.rows],
                "notes": table.notes,
            }
            for table in tables
        ],
    }


def _whole(table: Table) -> str:
    return csv_text([table.columns, *table.rows])
