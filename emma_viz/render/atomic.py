"""Files that are written whole or not at all."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from emma_viz.errors import InputError


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> Path:
    """Write a file beside its final place, then rename it; on an exception nothing is left or replaced.

    Args:
        path: the file to write; an existing one is replaced.
        write: writes the content to the stream it is given.

    Returns:
        The path.

    Raises:
        InputError: the folder does not exist or cannot be written to.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; create it first.")
    if path.is_dir():
        raise InputError(f"{path}: expected a file name to write to, but this is a folder.")
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        stream = part.open("xb")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}).") from error
    try:
        with stream:
            write(stream)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return path
