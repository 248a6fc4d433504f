"""The one door through which the programs print: readable in any encoding, and nothing in it commands a terminal."""

import os
import re
import sys
import unicodedata
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

# Controls but newline and tab, separators of lines, overrides of the direction of text, tags, halves of pairs.
_COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
# What moves the cursor for a progress bar: to the beginning of its line, or from a lower bar's line back up.
_MOVE = re.compile("\r|(?:\x1b\\[A)+$")


def printable(text: str) -> str:
    r"""A text with all that commands a terminal, or is no character at all, escaped as in Python; `\n` and `\t` stay.

    Examples:
        >>> printable("caf\udce9\x1b[2J")
        'caf\\xe9\\x1b[2J'
    """
    return _COMMANDS.sub(_escape, text)


def one_line(text: object) -> str:
    """A name, such as that of a file, as `printable` text without a line's end."""
    return printable(str(text)).replace("\n", "\\n")


def indented(text: str) -> str:
    """A text whose second and later lines cannot pass for messages of their own: they begin with spaces."""
    return re.sub(r"\n(?=\S)", "\n  ", text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # how Python keeps a byte of a file name or an argument that is no UTF-8
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _cells(char: str) -> int:
    return 2 if unicodedata.east_asian_width(char) in "FW" else 1


class Door:
    """A text stream that writes what is `printable`, escaping what the stream's encoding lacks.

    When the stream cannot be written to any more, what comes is dropped, so that the work goes on whose messages
    nobody reads; `failure` keeps why.

    Args:
        stream: to write to; all else that a stream has is its own.
    """

    def __init__(self, stream: Any):
        self._stream = stream
        # Whether the line that the cursor is in may be overwritten: it is empty, or a progress bar's.
        self._free = True
        # Cells of the line that a progress bar stands in.
        self._bar = 0
        self.failure: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        """No: whoever asks would colour its text, by what is escaped here."""
        return False

    @property
    def on_terminal(self) -> bool:
        """Whether the stream that is written to is a terminal, where somebody looks."""
        return self._stream.isatty()

    def write(self, text: str) -> int:
        """Write a text; a progress bar makes room for what is none."""
        move = _MOVE.match(text) if self._free else None
        if text and not move:
            for each in {id(door): door for door in (self, sys.stdout, sys.stderr)}.values():
                if isinstance(each, Door):
                    each._erase_bar()
        self._try(lambda: self._stream.write(self._shown(text, move)))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts one after another."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hand over what is buffered."""
        self._try(self._stream.flush)

    def _try(self, do) -> None:
        if self.failure is not None:
            return
        try:
            do()
        except OSError as error:
            self.failure = error
            # What is still buffered goes nowhere: Python would try again when it ends, and complain.
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)

    def _erase_bar(self) -> None:
        if self._bar and self.on_terminal:
            self._try(lambda: self._stream.write(f"\r{' ' * self._bar}\r"))
            self.flush()
        self._bar = 0

    def _shown(self, text: str, move: re.Match[str] | None) -> str:
        start, rest = (move[0], text[move.end() :]) if move else ("", text)
        if rest:
            self._free = rest.endswith("\n") or bool(start and "\n" not in rest)
        shown = start + printable(rest)
        if start and rest:
            self._bar = 0 if rest.endswith("\n") else sum(map(_cells, shown[len(start) :].rstrip()))
        encoding = getattr(self._stream, "encoding", None)
        return shown.encode(encoding, "backslashreplace").decode(encoding) if encoding else shown


@contextmanager
def doors() -> Generator[Door | None, None, None]:
    """Print through doors; yields that of standard output, None when the process has none.

    What is said on a standard error that the process has not (`2>&-`) goes nowhere; `print` would put it on the other.
    """
    before = sys.stdout, sys.stderr
    with ExitStack() as stack:
        nowhere = stack.enter_context(open(os.devnull, "w")) if sys.stderr is None else None
        sys.stdout, sys.stderr = (
            each if each is None or isinstance(each, Door) else Door(each)
            for each in (sys.stdout, nowhere or sys.stderr)
        )
        # Help and tracebacks of newer Pythons are coloured by what a door escapes.
        os.environ.setdefault("NO_COLOR", "1")
        try:
            yield sys.stdout if isinstance(sys.stdout, Door) else None
        finally:
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, Door):
                    stream.flush()
            sys.stdout, sys.stderr = before
