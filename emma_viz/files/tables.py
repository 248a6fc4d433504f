"""Tables as comma-separated text that opens in a spreadsheet as what it is: no cell of a stranger's acts there."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

_ACTING = ("=", "+", "-", "@", "\t", "\r", "\n")
"""With one of these a spreadsheet takes a text for a formula."""


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows of cells as CSV, lines ended by a line feed.

    A text that a spreadsheet would compute gets an apostrophe before it, and a carriage return in it becomes a line
    feed: readers take a bare one for the end of a row. Numbers stay as they are.
    """
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n").writerows([_inert(cell) for cell in row] for row in rows)
    return file.getvalue()


def _inert(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    text = cell.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if cell.startswith(_ACTING) else text
