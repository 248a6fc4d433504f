"""Pictures are written whole or not at all."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO

from emma_viz.errors import InputError
from emma_viz.files.atomic import write_files
from emma_viz.files.room import require_writable


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

    def fill(part: Path) -> None:
        with part.open("wb") as stream:
            write(stream)

    _write({path: fill})
    return path


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write several files, each whole, and none before all are; see `write_atomically`.

    Their bytes are all on the disk before the first gets its name, so that a program that is killed leaves either the
    old files, or, if it is killed between two names, files of which each is whole.
    """
    _write({path: partial(_fill, content) for path, content in contents.items()})


def _fill(content: bytes, part: Path) -> None:
    part.write_bytes(content)


def _write(writers: Mapping[Path, Callable[[Path], object]]) -> None:
    for path in writers:
        require_writable(path)
    try:
        write_files(writers)
    except OSError as error:
        named = ", ".join(str(path) for path in writers)
        raise InputError(f"{named}: cannot be written ({error.strerror}).") from error
