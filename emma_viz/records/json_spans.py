"""Where each record of a JSON array or JSONL file begins and ends, in bytes; the file is never in memory as a whole.

Only quotes, brackets and commas are looked at here: they are ASCII, and no byte of a longer UTF-8 character is one of
them. So a record that is broken inside, too deep or too long costs itself alone: the next one is still found, and of
one that is too long no more than the budget is ever held.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from emma_viz.errors import RecordError
from emma_viz.files.json_door import Budget, open_regular, parse_json

_CHUNK = 1 << 20
"""Bytes read at once."""
RECORD = Budget(size=16 * 2**20)
"""How much one record may hold."""
_FARTHEST = 2**28
"""Bytes after which a record that has not ended is not followed any more: a file can be as long as its writer likes."""
MARK = b"\xef\xbb\xbf"
"""The byte order mark that some programs put before UTF-8."""
SPACE = b" \t\r\n"

_SPACES = re.compile(rb"[ \t\r\n]*+")
_INSIDE = re.compile(rb'(?:[^"\[\]{}]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+', re.DOTALL)
"""All up to the next bracket, or to a text that the buffer cuts off."""
_BETWEEN = re.compile(rb'(?:[^"\[\]{},]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+', re.DOTALL)
"""The same outside all brackets, where a comma ends an item."""
_REST_OF_TEXT = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Span:
    """One record's place in its file."""

    index: int
    """From 0."""
    start: int
    """Its first byte."""
    size: int
    """Its bytes."""
    raw: bytes | None
    """They; None when they are more than the budget."""

    @property
    def value(self) -> Any:
        """What it holds.

        Raises:
            RecordError: it is no JSON, or more than the budget.
        """
        if self.raw is None:
            raise RecordError(
                f"record {self.index}: expected at most {RECORD.size / 2**20:.4g} MB of JSON, got "
                f"{self.size / 2**20:.4g} MB"
            )
        return record_value(self.raw, self.index)


def record_value(raw: bytes, index: int) -> Any:
    """A record's value from its bytes.

    Raises:
        RecordError: they are no JSON, more than the budget, say a key twice, or hold a number that is not finite or
            too long.
    """
    return parse_json(raw, where=f"record {index}", error=RecordError, budget=RECORD)


def spans(path: Path) -> Iterator[Span]:
    """The records of a file, in order.

    Raises:
        RecordError: the file cannot be read, is neither form, or is an array that does not end.
    """
    try:
        with open_regular(path, error=RecordError) as file:
            yield from _spans(file, path)
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror or error}") from error


def _spans(file: BinaryIO, path: Path) -> Iterator[Span]:
    place = len(MARK) if file.read(len(MARK)) == MARK else 0
    file.seek(place)
    first = b""
    while not first and (chunk := file.read(_CHUNK)):
        first = chunk.lstrip(SPACE)
        place += len(chunk) - len(first)
    first = first[:1]
    file.seek(place + 1)
    if first == b"[":
        yield from _Array(file, path, place + 1).records()
    elif first == b"{":
        file.seek(place)
        yield from _lines(file, path, place)
    else:
        came = f"it begins with {str(first)[1:]}" if first else "it is empty"
        raise RecordError(
            f"{path} is no list of records: expected a JSON array or one object a line, in UTF-8, but {came}"
        )


def spans_in(path: Path, key: str) -> Iterator[Span]:
    """The records of the first array that stands under a key, such as COCO's "annotations"; the rest is not looked at.

    Raises:
        RecordError: the file cannot be read, has no such array, or the array does not end.
    """
    pattern = re.compile(rb'(?<!\\\\)"' + re.escape(key.encode()) + rb'"\s{0,64}:\s{0,64}\[')
    try:
        with open_regular(path, error=RecordError) as file:
            place, held = 0, b""
            while chunk := file.read(_CHUNK):
                held += chunk
                if found := pattern.search(held):
                    file.seek(place + found.end())
                    yield from _Array(file, path, place + found.end()).records(alone=False)
                    return
                cut = max(0, len(held) - len(key) - 256)
                place, held = place + cut, held[cut:]
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror or error}") from error
    raise RecordError(f"{path}: expected an array under {key!r}, found none")


def _lines(file: BinaryIO, path: Path, place: int) -> Iterator[Span]:
    index = 0
    while line := file.readline(RECORD.size):
        size, end = len(line), line
        while not end.endswith(b"\n") and (end := file.readline(_CHUNK)):
            size += len(end)
            _require_near(size, index, path)
        whole = line if size == len(line) else None
        if whole is None or whole.strip():
            yield Span(index=index, start=place, size=size, raw=whole)
            index += 1
        place += size


def _require_near(size: int, index: int, path: Path) -> None:
    if size > _FARTHEST:
        raise RecordError(
            f"record {index} of {path}: it does not end within {_FARTHEST / 2**20:.4g} MB; what "
            "follows was not looked at"
        )


class _Array:
    """A JSON array whose opening bracket has been read.

    Args:
        place: the byte after the bracket.
    """

    def __init__(self, file: BinaryIO, path: Path, place: int):
        self.file, self.path = file, path
        self.buffer, self.at, self.place = b"", 0, place
        self.text = False
        """Whether the place is inside a text."""
        self.depth = self.opened = 0
        """Brackets that are open, and that were opened in this item."""

    def records(self, *, alone: bool = True) -> Iterator[Span]:
        """Each item of the array, whatever it is; what follows the array is an error where it should be alone."""
        index, last = 0, False
        if self._skip_space() == b"]":
            self.at, last = self.at + 1, True
        while not last:
            self._skip_space()
            span, last = self._item(index)
            yield span
            index += 1
        if alone and (rest := self._skip_space()):
            raise RecordError(
                f"{self.path}: expected nothing after the array of {index} records, got {str(rest)[1:]}"
            )

    def _item(self, index: int) -> tuple[Span, bool]:
        """The item that begins here, and whether the array ends with it; what follows its comma or bracket is next."""
        self.text, self.depth, self.opened = False, 0, 0
        start, size, held = self.place + self.at, 0, bytearray()
        while True:
            begin = self.at
            end = self._advance(index)
            size += self.at - begin
            _require_near(size, index, self.path)
            if size <= RECORD.size:
                held += self.buffer[begin : self.at]
            if end:
                self.at += 1
                raw = bytes(held).rstrip(SPACE) if size <= RECORD.size else None
                kept = size if raw is None else len(raw)
                return Span(index=index, start=start, size=kept, raw=raw), end == b"]"
            if not self._fill():
                raise RecordError(
                    f"record {index} of {self.path}: the file ends before the record or array does"
                )

    def _advance(self, index: int) -> bytes:
        """Move on to the item's end, or as far as the buffer goes.

        Returns:
            The sign that ends the item; "" when the buffer ended first.
        """
        buffer, at, depth = self.buffer, self.at, self.depth
        while True:
            passed = (_REST_OF_TEXT if self.text else _INSIDE if depth else _BETWEEN).match(buffer, at)
            assert passed is not None  # It may be empty.
            at = passed.end()
            sign = buffer[at : at + 1]
            if not sign or sign == b"\\" or (depth == 0 and sign in b",]" and not self.text):
                self.at, self.depth = at, depth
                # A backslash at the buffer's end waits for what it stands before.
                return b"" if self.text else sign
            at += 1
            if sign == b'"':
                self.text = not self.text
            elif sign in b"[{":
                depth, self.opened = depth + 1, self.opened + 1
                if self.opened > RECORD.nodes:
                    # Finding its end would take as long as whoever wrote it likes.
                    raise RecordError(
                        f"record {index} of {self.path}: expected at most {RECORD.nodes} values, got more; what "
                        "follows was not looked at"
                    )
            elif sign in b"]}":
                depth = max(0, depth - 1)

    def _fill(self) -> bool:
        """Forget what was passed and read on; False at the end of the file."""
        more = self.file.read(_CHUNK)
        self.place += self.at
        self.buffer, self.at = self.buffer[self.at :] + more, 0
        return bool(more)

    def _skip_space(self) -> bytes:
        """The next byte that is no white space, b"" at the end of the file."""
        while True:
            spaces = _SPACES.match(self.buffer, self.at)
            assert spaces is not None  # It may be empty.
            self.at = spaces.end()
            if self.at < len(self.buffer):
                return self.buffer[self.at : self.at + 1]
            if not self._fill():
                return b""
