"""Files that are written whole or not at all; the one way in which the package and its programs write."""

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PART = re.compile(r"\..+\.[0-9a-f]{12}\.part", re.DOTALL)
"""Names of files that are being written; what has one and no writer was left by a process that was killed."""
_SWEPT: dict[tuple[int, int], float] = {}
"""Folder (device and number) → when this process may sweep it again, on the monotonic clock."""
_RARELY = 100
"""A folder is swept after so many times the time that sweeping it took: it costs little where many are written."""


def write_files(writers: Mapping[Path, Callable[[Path], object]]) -> None:
    """Write several files, each whole, and none before all have been written.

    Each writer is given a temporary path in its target's folder, which must exist. When all have succeeded and their
    bytes are on the disk, the files are given their names, in order, with the rights of any new file of the user's; an
    existing file is replaced. On an exception before that, such as one of a writer, nothing has changed. Giving a name
    is one step of the system's for each file: if it refuses one (a folder was made there meanwhile), those before it
    are new, and it and those behind it are as they were; so what vouches for the others comes last. No temporary file
    is left. What a process that was killed has left in these folders is removed.

    Raises:
        OSError: the system refuses (no space, no permission, no such folder, a folder where a file is to go).
    """
    for target in writers:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder is where the file is to go", str(target))
    parts = {target: target.with_name(_part_name(target.name)) for target in writers}
    with _held({target.parent for target in writers}):
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


@contextmanager
def _held(folders: Iterable[Path]) -> Generator[None]:
    """Tell other processes that files are written in these folders, and sweep each if nobody else is writing.

    The lock is the system's, on the folder itself: it needs no file, and ends with its process however that ends.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with ExitStack() as stack:
        for folder in sorted(folders):
            handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, handle)
            about = os.fstat(handle)
            key, began = (about.st_dev, about.st_ino), time.monotonic()
            # Some network folders have no locks: nothing is swept there.
            with suppress(OSError):
                if began >= _SWEPT.get(key, 0.0):
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _sweep(folder)
                    now = time.monotonic()
                    _SWEPT[key] = now + _RARELY * (now - began)
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_SH)
        yield


def _sweep(folder: Path) -> None:
    with os.scandir(folder) as found:
        for each in found:
            if PART.fullmatch(each.name) and each.is_file(follow_symlinks=False):
                with suppress(OSError):
                    os.unlink(each.path)


def _part_name(name: str) -> str:
    """A name beside `name`: of a long one the first 100 bytes, because 255 is all that a file system holds."""
    return f".{os.fsdecode(os.fsencode(name)[:100])}.{secrets.token_hex(6)}.part"


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write one file; see `write_files`."""
    write_files({path: write})


def copy_file(source: Path, target: Path) -> None:
    """Copy one file's bytes; see `write_files`."""
    write_file(target, lambda part: shutil.copyfile(source, part))
