"""Locks that one process, and one thread, at a time can hold."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from emma_viz.errors import EmmaVizError

LOCK_SECONDS = 30.0
"""How long one waits for another holder before giving up."""
_POLL = 0.02
"""Seconds between two attempts."""


@contextmanager
def locked(
    path: Path, what: str, *, error: type[EmmaVizError], seconds: float | None = None
) -> Generator[None, None, None]:
    """Hold a lock while the block runs.

    The system frees it when its process ends, however it ends, so there are no stale locks.

    Args:
        path: the lock file, in a folder that exists; it stays there, or two could hold one name's.
        what: what is locked, for messages.
        error: what is raised.
        seconds: how long to wait for another holder; `LOCK_SECONDS` when not given.

    Raises:
        EmmaVizError: of the kind `error`: another holds the lock, or the lock file cannot be written.
    """
    # One object each time: two of one process exclude each other as those of two processes do.
    lock = FileLock(path, timeout=LOCK_SECONDS if seconds is None else seconds, thread_local=False)
    try:
        lock.acquire(poll_interval=_POLL)
    except Timeout as held:
        raise error(
            f"Another process is writing to {what} (lock file {path}). Wait until it is done, or write to another one."
        ) from held
    except (OSError, NotImplementedError) as failure:
        raise error(f"{path} cannot be locked: {failure}.") from failure
    try:
        yield
    finally:
        lock.release()


def is_held(error: EmmaVizError) -> bool:
    """Whether `locked` raised because another holds the lock, and not because it cannot be taken at all."""
    return isinstance(error.__cause__, Timeout)
