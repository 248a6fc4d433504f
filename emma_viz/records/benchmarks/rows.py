"""Rows of a benchmark's file, each with its line: JSON arrays, one object a line, CSV, TSV, XLSX, or bare columns."""

import csv
import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emma_viz.errors import MissingDependencyError, RecordError
from emma_viz.files.json_door import TABLE, open_regular, read_bytes
from emma_viz.records.json_spans import Span, spans, spans_in
from emma_viz.records.questions import require_text

SEPARATED = {".csv": ",", ".tsv": "\t"}
"""How names of tables end, in small letters, and what parts their columns."""
WORKBOOKS = (".xlsx",)
"""How names of workbooks end."""
_UNPACKED = 4 * TABLE.size
"""Bytes that a workbook may unpack to."""
_ROWS, _CELLS = 1 << 20, 1 << 25
"""Rows that a sheet may have, which is Excel's own limit, and cells that all of them may have, empty ones too."""
CHUNK = 1 << 20
"""Bytes read at once while lines are counted."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a file, which may be broken: what it holds is read when it is asked for."""

    path: Path
    """The file."""
    line: int
    """Where it begins, from 1."""
    content: dict[str, Any] | Span
    """The columns of a table, or bytes of JSON."""

    @property
    def number(self) -> int:
        """From 1: that of the record in a JSON file, however many stand in a line; the line elsewhere."""
        return self.content.index + 1 if isinstance(self.content, Span) else self.line

    @property
    def where(self) -> str:
        """The file's name and the line; of several records in a line the number of this one, from 0, too."""
        beside = "" if self.number == self.line else f", record {self.number - 1}"
        return f"{self.path.name}, line {self.line}{beside}"

    @property
    def fields(self) -> dict[str, Any]:
        """Its columns or keys.

        Raises:
            RecordError: it is no JSON object.
        """
        value = self.content.value if isinstance(self.content, Span) else self.content
        if not isinstance(value, dict):
            raise RecordError(f"expected an object, got {type(value).__name__}")
        return value

    def text(self, *names: str, empty: bool = False) -> str:
        """The text under the first of these names that is there; a number is written out.

        Raises:
            RecordError: none is there, or it is no text, or empty and must not be.
        """
        fields = self.fields
        name = next((each for each in names if fields.get(each) is not None), None)
        if name is None:
            raise RecordError(f"expected {' or '.join(map(repr, names))}, got {_listed(fields)}")
        value = fields[name]
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise RecordError(f"expected a text as {name!r}, got {value!r:.80}")
        if value.strip() or not empty:
            require_text(value, repr(name))
        return value

    def maybe(self, *names: str) -> str:
        """As `text`, and "" where none is there."""
        return self.text(*names, empty=True) if any(self.fields.get(n) is not None for n in names) else ""

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts.

        Raises:
            RecordError: it is none.
        """
        value = self.fields.get(name)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise RecordError(f"expected a list of texts as {name!r}, got {value!r:.80}")
        return tuple(value)

    def yes_no(self, *names: str) -> str:
        """ "yes" or "no", from a text in any case, or from the 1 and 0 of HallusionBench.

        Raises:
            RecordError: it is neither.
        """
        given = self.text(*names)
        found = {"yes": "yes", "no": "no", "1": "yes", "0": "no"}.get(given.strip().rstrip(".").lower())
        if found is None:
            raise RecordError(f"expected yes or no as {names[0]!r}, got {given!r:.80}")
        return found


def _listed(fields: dict[str, Any]) -> str:
    there = [str(name) for name, value in fields.items() if value is not None]
    return f"{', '.join(there)}"[:200] or "nothing"


def benchmark_rows(path: Path, *, columns: tuple[str, ...] = (), within: str = "") -> Iterator[Row]:
    """The rows of a file, in order.

    Args:
        path: a .csv, .tsv or .xlsx (its first sheet) with a head, or JSON: an array, or one object a line.
        within: for a JSON object: the key whose array holds the rows; the rest is not looked at.
        columns: for a file without a head, whose columns tabs part: their names; those at the end may lack.

    Raises:
        RecordError: the file cannot be read, or is none of these.
    """
    if columns:
        yield from _headless(path, columns)
    elif path.suffix.lower() in WORKBOOKS:
        yield from workbook_rows(path)
    elif path.suffix.lower() in SEPARATED:
        yield from _table(path, SEPARATED[path.suffix.lower()])
    else:
        yield from _json(path, spans_in(path, within) if within else spans(path))


def _json(path: Path, found: Iterator[Span]) -> Iterator[Row]:
    lines, place = 1, 0
    with open_regular(path, error=RecordError) as file:
        for span in found:
            while place < span.start and (chunk := file.read(min(CHUNK, span.start - place))):
                lines, place = lines + chunk.count(b"\n"), place + len(chunk)
            yield Row(path=path, line=lines, content=span)


def _text_of(path: Path) -> str:
    try:
        return read_bytes(path, limit=TABLE.size, error=RecordError).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: expected text in UTF-8, got other bytes ({error.reason})") from error


def _table(path: Path, separator: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(_text_of(path), newline=""), delimiter=separator, strict=True)
    head: list[str] = []
    last = 0
    try:
        for cells in reader:
            line, last = last + 1, reader.line_num
            if not any(cells):
                continue
            if not head:
                head = _head(path, cells)
                continue
            filled = cells if len(cells) == len(head) else []
            found = dict(zip(head, filled, strict=True)) if filled else {"": cells}
            if not filled:
                # As an object that lacks everything: it is named, and the rows after it are read.
                found = {f"{len(cells)} columns where the head has {len(head)}": ""}
            yield Row(path=path, line=line, content={name: value for name, value in found.items() if name})
    except csv.Error as error:
        raise RecordError(f"{path}, line {reader.line_num}: this is no table ({error})") from error


def _head(path: Path, cells: Sequence[str]) -> list[str]:
    """The names of a table's columns.

    Raises:
        RecordError: one comes twice.
    """
    head = [cell.strip() for cell in cells]
    if len(set(head)) < len(head):
        raise RecordError(f"{path}: the head of the table says a column twice: {', '.join(head)}")
    return head


def workbook_rows(path: Path) -> Iterator[Row]:
    """The rows of a workbook's first sheet, below its head; nothing in it is computed.

    Raises:
        RecordError: the file cannot be read, or holds more than a table may, its empty rows counted.
        MissingDependencyError: openpyxl is not installed.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise MissingDependencyError(
            "openpyxl", "read .xlsx tables", "pip install 'emma-viz[casebook]'"
        ) from error
    content = read_bytes(path, limit=TABLE.size, error=RecordError)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            unpacked = sum(each.file_size for each in packed.infolist())
        if unpacked > _UNPACKED:
            raise RecordError(f"{path}: it unpacks to {unpacked / 2**20:.4g} MB, which is no table.")
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        sheet = book.worksheets[0]
        sheet.reset_dimensions()  # The size that the file says is not believed: all rows would be filled up to it.
        head: list[str] = []
        filled = 0
        for line, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
            filled += len(cells)
            if line > _ROWS or filled > _CELLS:
                raise RecordError(
                    f"{path}: expected a sheet of at most {_ROWS} rows and {_CELLS} cells, got more."
                )
            if all(cell is None for cell in cells):
                continue
            if not head:
                head = _head(path, ["" if cell is None else str(cell) for cell in cells])
                continue
            named = dict.fromkeys(head) | dict(zip(head, cells, strict=False))  # empty cells at the end lack
            yield Row(path=path, line=line, content={name: value for name, value in named.items() if name})
    except RecordError:
        raise
    except Exception as error:  # openpyxl raises whatever a stranger's file brings it to
        raise RecordError(f"{path} cannot be read as a workbook: {error!r:.200}.") from error


def _headless(path: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    for line, text in enumerate(_text_of(path).split("\n"), start=1):
        text = text.removesuffix("\r")
        if text.strip():
            yield Row(path=path, line=line, content=dict(zip(columns, text.split("\t"), strict=False)))
