"""Files that are written whole or not at all; the one way in which the package and its programs write."""

import os
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

PART = re.compile(r"\..+\.[0-9a-f]{12}\.part", re.DOTALL)
"""Names of files that are being written; what has one and no writer was left by a process that was killed."""


def write_files(writers: Mapping[Path, Callable[[Path], object]]) -> None:
    """Write several files, all of them or none.

    Each writer is given a temporary path in its target's folder, which must exist. When all have succeeded and their
    bytes are on the disk, the files are given their names, in order, with the rights of any new file of the user's; an
    existing file is replaced. On an exception nothing has changed and no temporary file is left.

    Raises:
        OSError: the system refuses (no space, no permission, no such folder).
    """
    parts = {target: target.with_name(_part_name(target.name)) for target in writers}
    try:
        for target, write in writers.items():
            # Some writers put a private file over this one; the rights that the user's umask gives are put back.
            parts[target].touch(exist_ok=False)
            rights = parts[target].stat().st_mode
            write(parts[target])
            parts[target].chmod(rights)
            with parts[target].open("rb+") as file:
                os.fsync(file.fileno())
        for target, part in parts.items():
            os.replace(part, target)
    finally:
        for part in parts.values():
            with suppress(OSError):
                part.unlink()


def _part_name(name: str) -> str:
    """A name beside `name`: of a long one the first 100 bytes, because 255 is all that a file system holds."""
    return f".{os.fsdecode(os.fsencode(name)[:100])}.{secrets.token_hex(6)}.part"


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write one file; see `write_files`."""
    write_files({path: write})
