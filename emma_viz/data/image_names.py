"""What a record of a data set calls its image: a path inside the image folder, and one for each image."""

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from emma_viz.errors import RecordError
from emma_viz.files.inside import LONGEST

PATH = 4096
"""Bytes of the longest path that systems open."""
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:(?=//|[a-zA-Z]+/[^/]*[;,])|[a-zA-Z]:[/\\]")
"""`https://…`, `data:image/png;base64,…`, `C:\\…`."""


def image_name(name: Any, *, where: str, folder: Path | None) -> str:
    """The path of an image, relative to the image folder, without detours: `./a/../b.jpg` is `b.jpg`.

    Links inside the folder are not looked at: it is the user's own. That the file is there is not made sure.

    Args:
        name: what the record says.
        where: the record, for messages.
        folder: the image folder, which an absolute path must lead into; None refuses absolute paths.

    Raises:
        RecordError: it is no text, empty, an address, the image itself, no path, or leads out of the folder.
    """
    if not isinstance(name, str) or not name.strip():
        raise RecordError(
            f"{where}: expected the path of an image as 'image', got {name!r:.80}; leave it out for text"
        )
    if _ADDRESS.match(name):
        raise RecordError(
            f"{where}: expected the path of a file in the image folder, got the address {name!r:.60}; save the image "
            "there"
        )
    try:
        raw = os.fsencode(name)
    except UnicodeEncodeError:
        raise RecordError(
            f"{where}: expected the path of an image, got {name!r:.80}, half a character"
        ) from None
    if b"\0" in raw or len(raw) > PATH or any(len(part) > LONGEST for part in raw.split(b"/")):
        raise RecordError(
            f"{where}: expected the path of an image, got {name!r:.40}…, which no file is called (is it the image "
            "itself?)"
        )
    path = posixpath.normpath(name)
    if posixpath.isabs(path) and folder is not None:
        path = posixpath.relpath(path, os.path.abspath(folder))
    if posixpath.isabs(path) or path.split("/")[0] in ("..", "."):
        raise RecordError(f"{where}: expected a path inside the image folder, got {name!r:.120}")
    return path
