"""The path that a user means by a name."""

import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

from emma_viz.errors import InputError

_ADDRESS = re.compile(r"file:(?://(?P<host>[^/]*))?(?P<path>/.*)", re.IGNORECASE | re.DOTALL)


def is_web_address(given: object) -> bool:
    """Whether a name is the address of something that would have to be downloaded."""
    return isinstance(given, str) and given.startswith(("http://", "https://"))


def named_path(given: str | os.PathLike[str]) -> Path:
    """A path as given, from a `file:` address, or with `~` for a home folder.

    What exists under the very name is meant by it: a file may be called `~draft.png`. Where neither such a file nor
    such a user exists, the name is that of a file that is still to be made.

    Examples:
        >>> named_path("file:///tmp/a%20cup.png")
        PosixPath('/tmp/a cup.png')

    Raises:
        InputError: an address names another machine, or no path.
    """
    text = os.fspath(given)
    path = Path(text)
    if path.parts and os.path.lexists(path.parts[0]):
        return path
    if text.startswith("~"):
        try:
            return path.expanduser()
        except RuntimeError:  # there is no such user
            return path
    if found := _ADDRESS.fullmatch(text):
        raw = unquote_to_bytes(os.fsencode(found["path"]))
        if (found["host"] or "localhost").lower() != "localhost" or b"\0" in raw:
            raise InputError(
                f"{text} is no file of this machine: expected a path, or file:///path with what is no letter as %XX."
            )
        return Path(os.fsdecode(raw))
    return path
