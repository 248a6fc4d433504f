"""Tables of numbers with intervals, written as Markdown, CSV, JSON and LaTeX."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from emma_viz.files.tables import csv_text

DIGITS = 3
"""Behind the point, in tables that are read; CSV and JSON have five."""
_ESCAPED = str.maketrans(
    {
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "±": r"$\pm$",
        "−": "$-$",
    }
)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A number, with its 95 % interval where it has one; NaN where it is not defined."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def text(self) -> str:
        """As it is read: `.913 [.901, .925]`."""
        if not math.isfinite(self.value):
            return "–"
        if 0 < self.value < 0.5 * 10**-DIGITS and not math.isfinite(self.low):
            return f"<{_short(10**-DIGITS)}"
        ends = f" [{_short(self.low)}, {_short(self.high)}]" if math.isfinite(self.low + self.high) else ""
        return f"{_short(self.value)}{ends}"


Cell: TypeAlias = str | int | Interval | None
"""A text, a count, a number, or nothing to say."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table."""

    name: str
    """Names it in JSON and CSV."""
    title: str
    """What it shows, in a line."""
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    """What one must know to read it."""


def markdown(tables: Sequence[Table], title: str, notes: Sequence[str] = ()) -> str:
    """All tables as one Markdown text, below what one must know to read any."""
    lines = [f"# {title}", "", *(line for note in notes for line in (f"{' '.join(note.split())}.", ""))]
    for table in tables:
        lines += [f"## {table.title}", "", _row(table.columns), _row(["---"] * len(table.columns))]
        lines += [_row([cell_text(cell).replace("|", "\\|") for cell in row]) for row in table.rows]
        lines += ["", *table.notes, *([""] if table.notes else [])]
    return "\n".join(lines)


def comma_separated(tables: Sequence[Table]) -> str:
    """All tables as one CSV of (table, row, column, value, low, high): a cell a line."""
    rows: list[tuple[Any, ...]] = [("table", "row", "column", "value", "low", "high")]
    for table in tables:
        for number, row in enumerate(table.rows):
            for column, cell in zip(table.columns, row, strict=True):
                found = cell_json(cell)
                values = found.values() if isinstance(found, dict) else (found, None, None)
                rows.append((table.name, number, column, *("" if v is None else v for v in values)))
    return csv_text(rows)


def cell_json(cell: Cell) -> Any:
    """A cell as plain JSON: a number is {value, low, high}, each null where it is not defined."""
    if not isinstance(cell, Interval):
        return cell
    return {
        name: round(value, 5) if math.isfinite(value) else None
        for name, value in (("value", cell.value), ("low", cell.low), ("high", cell.high))
    }


def latex(tables: Sequence[Table]) -> str:
    """All tables as LaTeX, each a `tabular` with rules of booktabs."""
    lines = []
    for table in tables:
        lines += [
            r"\begin{table}",
            rf"\caption{{{table.title.translate(_ESCAPED)}}}",
            rf"\begin{{tabular}}{{{'l' * len(table.columns)}}}",
            r"\toprule",
            _latex_row(table.columns),
            r"\midrule",
            *(_latex_row([cell_text(cell) for cell in row]) for row in table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    return "\n".join(lines)


def aligned(table: Table) -> str:
    """A table for a terminal: columns of one width."""
    cells = [table.columns, *([cell_text(cell) for cell in row] for row in table.rows)]
    widths = [max(len(row[number]) for row in cells) for number in range(len(table.columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def cell_text(cell: Cell) -> str:
    """A cell on one line."""
    if cell is None:
        return "–"
    text = cell.text() if isinstance(cell, Interval) else str(cell)
    return " ".join(text.split())


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cell.translate(_ESCAPED) for cell in cells) + r" \\"


def _short(value: float) -> str:
    """Without a 0 before the point, as statistics are printed."""
    text = f"{value:.{DIGITS}f}"
    return text.replace("0.", ".", 1) if text.removeprefix("-").startswith("0.") else text
