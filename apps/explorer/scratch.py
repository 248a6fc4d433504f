"""The server's temporary folder: one for each server, held by a lock, and swept when its server is dead."""

import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path
from types import ModuleType

PREFIX = "emma-viz-explorer-"
LOCK = "lock"
"""File in a folder that its server holds locked for as long as it lives."""


class Scratch:
    """A folder of this server alone, under the system's folder for temporary files.

    Folders of servers that were killed are removed first: those of this user that hold a lock file which nobody has
    locked any more. Links are never followed, and a folder without a lock file stays.
    """

    def __init__(self):
        place = Path(tempfile.gettempdir())
        sweep(place)
        self.path = place / f"{PREFIX}{secrets.token_hex(8)}"
        self.path.mkdir(mode=0o700)
        # Locked before it has its name: who sweeps never finds a lock file that is free and new.
        self._lock = os.open(self.path / f"{LOCK}.new", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        if (locks := _locks()) is not None:
            locks.flock(self._lock, locks.LOCK_EX | locks.LOCK_NB)
            (self.path / f"{LOCK}.new").rename(self.path / LOCK)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def sweep(place: Path) -> list[Path]:
    """Remove the folders of dead servers below `place`; returns them."""
    locks = _locks()
    if locks is None:
        return []
    removed = []
    for folder in place.glob(f"{PREFIX}*"):
        file = _free(folder, locks)
        if file is None:
            continue
        shutil.rmtree(folder, ignore_errors=True)
        os.close(file)
        removed.append(folder)
    return removed


def _free(folder: Path, locks: ModuleType) -> int | None:
    """The lock file of a folder that is surely ours and whose server is dead, open and locked; None otherwise."""
    lock = folder / LOCK
    try:
        if not (_mine(folder, stat.S_ISDIR) and _mine(lock, stat.S_ISREG)):
            return None
        file = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        locks.flock(file, locks.LOCK_EX | locks.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file


def _mine(path: Path, is_kind) -> bool:
    """Whether a path itself, not what a link of that name leads to, is of a kind and belongs to this user."""
    about = path.lstat()
    return is_kind(about.st_mode) and about.st_uid == os.getuid()


def _locks() -> ModuleType | None:
    """What locks files; None where there is no such thing, and then nothing is swept."""
    try:
        import fcntl
    except ImportError:
        return None
    return fcntl
