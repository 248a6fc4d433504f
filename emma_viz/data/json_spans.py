"""Where each record of a JSON array or JSONL file begins and ends, in bytes; the file is never in memory as a whole.

The file is read as Latin-1, in which a character is a byte: JSON's own signs are ASCII and no byte of a longer UTF-8
character is one of them, so records end where they would in UTF-8, and places in the text are places in the file.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from emma_viz.errors import RecordError

CHUNK = 1 << 20
"""Characters read at once."""
LONGEST = 1 << 26
"""A record is text; one that has not ended after this many characters is broken JSON."""
MARK = b"\xef\xbb\xbf".decode("latin-1")
"""The byte order mark that some programs put before UTF-8."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """One record's place in its file."""

    index: int
    """From 0."""
    start: int
    """Its first byte."""
    text: str
    """Its bytes, as Latin-1."""
    broken: RecordError | None = None
    """Why the line is no JSON; only in JSONL, where the next line can still be read."""

    @property
    def raw(self) -> bytes:
        """Its bytes."""
        return self.text.encode("latin-1")

    @property
    def value(self) -> Any:
        """What it holds.

        Raises:
            RecordError: it is not UTF-8, or broken JSON.
        """
        if self.broken is not None:
            raise self.broken
        return parse_json(self.raw, self.index)


def parse_json(raw: bytes, index: int) -> Any:
    """A record's value from its bytes.

    Raises:
        RecordError: they are not UTF-8, or no JSON.
    """
    try:
        return json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RecordError(f"record {index} is not UTF-8 text: {error}") from error
    except ValueError as error:
        raise RecordError(f"record {index} is broken JSON: {error}") from error


def spans(path: Path) -> Iterator[Span]:
    """The records of a file, in order.

    Raises:
        RecordError: the file cannot be read, or is an array that is broken: what follows cannot be told apart.
    """
    try:
        with path.open(encoding="latin-1", newline="") as file:
            yield from _spans(file, path)
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror or error}") from error


def _spans(file: TextIO, path: Path) -> Iterator[Span]:
    place = len(MARK) if file.read(len(MARK)) == MARK else 0
    file.seek(place)
    first = file.read(1)
    while first.isspace():
        place, first = place + 1, file.read(1)
    if first == "[":
        yield from _Array(file, path, place + 1).records()
    elif first == "{":
        yield from _lines(first, file, path, place)
    else:
        came = f"it begins with {first!r}" if first else "it is empty"
        raise RecordError(
            f"{path} is no LLaVA data set: expected a JSON array or one object a line, but {came}"
        )


def _lines(first: str, file: TextIO, path: Path, place: int) -> Iterator[Span]:
    index = 0
    line = first + file.readline()
    while line:
        if line.strip():
            yield Span(index=index, start=place, text=line, broken=_broken_line(line, index, path))
            index += 1
        place += len(line)
        line = file.readline()


def _broken_line(line: str, index: int, path: Path) -> RecordError | None:
    try:
        json.loads(line)
    except ValueError as error:
        return RecordError(f"record {index} of {path}: the line is broken JSON: {error}")
    return None


class _Array:
    """A JSON array whose opening bracket has been read.

    Args:
        place: the byte after the bracket.
    """

    def __init__(self, file: TextIO, path: Path, place: int):
        self.file, self.path = file, path
        self.decoder = json.JSONDecoder()
        self.text, self.at, self.place = "", 0, place

    def records(self) -> Iterator[Span]:
        """Each record of the array."""
        index = 0
        while (char := self._skip_space()) != "]":
            if index:
                if char != ",":
                    raise self._broken(index, "expected ',' or ']' before it", char)
                self.at += 1
                char = self._skip_space()
            if char != "{":
                raise self._broken(index, "expected an object", char)
            end = self._end(index)
            yield Span(index=index, start=self.place + self.at, text=self.text[self.at : end])
            self.at, index = end, index + 1
        self.at += 1
        if rest := self._skip_space():
            raise RecordError(
                f"{self.path}: expected nothing after the array of {index} records, got {rest!r}"
            )

    def _end(self, index: int) -> int:
        """Where in the text the object ends that begins at `at`."""
        size = CHUNK
        while True:
            try:
                return self.decoder.raw_decode(self.text, self.at)[1]
            except json.JSONDecodeError as error:
                # The record may only be cut by the end of the chunk: read on, in growing steps.
                if len(self.text) - self.at > LONGEST or not self._fill(size):
                    raise RecordError(f"record {index} of {self.path} is broken JSON: {error.msg}") from error
                size *= 2

    def _fill(self, at_least: int) -> bool:
        """Forget what was decoded and read on; False at the end of the file."""
        more = self.file.read(at_least)
        self.place += self.at
        self.text, self.at = self.text[self.at :] + more, 0
        return bool(more)

    def _skip_space(self) -> str:
        """The next character that is no white space, '' at the end of the file."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._fill(CHUNK):
                return ""

    def _broken(self, index: int, expected: str, char: str) -> RecordError:
        came = repr(char) if char else "the end of the file"
        return RecordError(f"record {index} of {self.path}: {expected}, got {came}")
