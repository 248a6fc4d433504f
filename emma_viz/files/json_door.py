"""The one door for JSON that is read: what passes is small, shallow, finite and says every key once."""

import json
import math
import os
import re
import stat
from collections import Counter
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from emma_viz.errors import EmmaVizError

_GROWN = 2**20
"""Bytes that a file may have grown by since it was looked at: asked for at once, its whole limit would be taken."""
_TOKENS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]|,', re.DOTALL)
"""A text as a whole (also one that does not end), an opening or closing bracket, a comma."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much JSON a file may hold."""

    size: int = 4 * 2**20
    """Bytes."""
    depth: int = 32
    """Arrays and objects inside one another."""
    nodes: int = 200_000
    """Values: every item of an array and every entry of an object."""
    digits: int = 20
    """Digits of the longest integer: those of 64 bits."""


CONFIG = Budget()
"""For files that describe something: configs, entries, headers of lenses."""
TABLE = Budget(size=128 * 2**20, nodes=2_000_000)
"""For files with a line for each tensor, sample or record."""


def open_regular(path: Path, *, error: type[EmmaVizError]) -> BufferedReader:
    """Open a regular file for reading.

    Raises:
        EmmaVizError: of the kind `error`: it is missing, a folder, a pipe or a device, or cannot be opened.
    """
    try:
        # Without O_NONBLOCK, opening a pipe waits until somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as missing:
        raise error(f"{path}: there is no such file.") from missing
    except (OSError, ValueError) as failure:  # ValueError: a zero byte in the path.
        raise error(f"{path} cannot be read ({getattr(failure, 'strerror', None) or failure}).") from failure
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise error(f"{path}: expected a regular file, got {_kind(mode)}.")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, *, limit: int, error: type[EmmaVizError]) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Args:
        path: the file.
        limit: bytes.
        error: what is raised.

    Raises:
        EmmaVizError: of the kind `error`: it is missing, no regular file (a folder, a pipe, a device), larger than
            `limit`, or cannot be read.
    """
    try:
        with open_regular(path, error=error) as file:
            about = os.fstat(file.fileno())
            content = b"" if about.st_size > limit else file.read(min(limit, about.st_size + _GROWN) + 1)
    except OSError as failure:
        raise error(f"{path} cannot be read ({failure.strerror or failure}).") from failure
    if (size := max(about.st_size, len(content))) > limit:
        raise error(f"{path}: expected at most {_size(limit)}, got {_size(size)}; this is not such a file.")
    return content


def read_json(
    path: Path, *, error: type[EmmaVizError], budget: Budget = CONFIG, infinite: bool = False
) -> dict[str, Any]:
    """The JSON object that a file holds.

    Args:
        path: the file.
        error: what is raised.
        budget: how much it may hold.
        infinite: let `Infinity` pass, which some programs write; not-a-number never passes.

    Raises:
        EmmaVizError: of the kind `error`: see `read_bytes` and `parse_json`; or it holds something else than an object.
    """
    value = parse_json(
        read_bytes(path, limit=budget.size, error=error),
        where=str(path),
        error=error,
        budget=budget,
        infinite=infinite,
    )
    if not isinstance(value, dict):
        raise error(f"{path}: expected a JSON object, got {_name(value)}.")
    return value


def parse_json(
    data: bytes | str,
    *,
    where: str,
    error: type[EmmaVizError],
    budget: Budget = CONFIG,
    infinite: bool = False,
) -> Any:
    """What JSON text says.

    A byte order mark before it is passed over. Text in it may hold lone surrogates, which file names have.

    Args:
        data: UTF-8 bytes, or text.
        where: what holds it, for messages.
        error: what is raised.
        budget: how much it may be.
        infinite: let `Infinity` pass.

    Raises:
        EmmaVizError: of the kind `error`: it is no JSON, more than the budget, says a key twice, or holds a number
            that is not finite or an integer of more than 20 digits.
    """
    if len(data) > budget.size:
        raise error(f"{where}: expected at most {_size(budget.size)} of JSON, got {_size(len(data))}.")
    try:
        text = data.decode("utf-8", errors="surrogatepass") if isinstance(data, bytes) else data
        text = text.removeprefix("\ufeff")
        _require_within(text, budget)
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=lambda number: _integer(number, budget.digits),
            parse_float=lambda number: _finite(number, infinite=infinite),
            parse_constant=lambda number: _finite(number, infinite=infinite),
        )
    except UnicodeDecodeError as failure:
        raise error(f"{where}: expected JSON, got a file that is not text ({failure.reason}).") from failure
    except (ValueError, RecursionError) as failure:
        raise error(f"{where}: expected JSON, but {_reason(failure)}.") from failure


class _RefusedError(ValueError):
    """JSON that is well formed and still does not pass."""


def _require_within(text: str, budget: Budget) -> None:
    """Count brackets and commas before anything is built of them."""
    opened = text.count("[") + text.count("{")
    if opened <= budget.depth and opened + text.count(",") <= budget.nodes:
        return  # Even if none of them stood inside a text.
    depth = nodes = 0
    for token in _TOKENS.finditer(text):
        sign = text[token.start()]
        if sign == ",":
            nodes += 1
        elif sign in "[{":
            nodes, depth = nodes + 1, depth + 1
        elif sign in "]}":
            depth -= 1
        if depth > budget.depth:
            raise _RefusedError(f"it is nested more than {budget.depth} deep")
        if nodes > budget.nodes:
            raise _RefusedError(f"it holds more than {budget.nodes} values")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise _RefusedError(f"the key {twice[:100]!r} stands in one object twice")
    return found


def _integer(digits: str, most: int) -> int:
    if len(digits.lstrip("-")) > most:
        raise _RefusedError(f"it holds an integer of {len(digits)} digits")
    return int(digits)


def _finite(number: str, *, infinite: bool) -> float:
    value = float(number)
    if math.isnan(value) or (math.isinf(value) and not infinite):
        raise _RefusedError(f"it holds the number {number[:30]}, which is not finite")
    return value


def _reason(failure: Exception) -> str:
    return str(failure) if isinstance(failure, _RefusedError) else f"it is none ({failure})"


def _name(value: object) -> str:
    names = {list: "an array", str: "a text", bool: "a truth value", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _kind(mode: int) -> str:
    return "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"


def _size(count: int) -> str:
    return f"{count / 2**20:.4g} MB" if count >= 2**20 else f"{count} bytes"
