"""Pictures are written whole or not at all."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from emma_viz.errors import InputError
from emma_viz.files.atomic import write_file


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

    def fill(part: Path) -> None:
        with part.open("wb") as stream:
            write(stream)

    try:
        write_file(path, fill)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}).") from error
    return path
