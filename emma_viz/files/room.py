"""Whether a file or folder can be written, found out before the work whose result it is to hold."""

import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path

from emma_viz.errors import EmmaVizError, InputError
from emma_viz.files.inside import LONGEST


def require_writable(
    path: str | Path,
    *,
    beside: Iterable[str] = (),
    folder: bool = False,
    parents: bool = False,
    error: type[EmmaVizError] = InputError,
) -> None:
    """Refuse a place that cannot be written to; really tries, and leaves nothing.

    Args:
        path: the file or folder that is to be written.
        beside: names of further files that will be written in the same folder.
        folder: whether `path` is to be a folder: it and the folders above it may be missing, and are made later.
        parents: whether the folders above a file may be missing too, because they are made later.
        error: what is raised.

    Raises:
        EmmaVizError: of the kind `error`: a name is too long, `path` is a folder (or none), something else stands there
            that must not be replaced, its folder does not exist, or nothing can be written there.
    """
    path = Path(path)
    try:
        _require_place(path, [path.name, *beside], folder, folder or parents, error)
    except (OSError, ValueError) as failure:
        if isinstance(failure, EmmaVizError):
            raise
        # ValueError: a zero byte, or a lone surrogate, in the path.
        reason = getattr(failure, "strerror", None) or str(failure)
        raise error(
            f"{str(path)[:300]!r} cannot be written to ({reason}); choose another place."
        ) from failure


def _require_place(path: Path, names: list[str], folder: bool, made: bool, error: type[EmmaVizError]) -> None:
    for name in (*names, *path.parts):
        if (size := len(os.fsencode(name))) > LONGEST:
            raise error(
                f"{name[:60]!r}…: expected a name of at most {LONGEST} bytes, got {size}; choose a shorter one."
            )
    absolute = Path(os.path.abspath(path))
    place = absolute if folder else absolute.parent
    above = [each for each in (place, *place.parents) if not _is_there(each)]
    if above and not made:
        raise error(f"{path}: the folder {place} does not exist; make it first, or choose another place.")
    place = above[-1].parent if above else place
    if not place.is_dir():
        raise error(f"{path}: expected {place} to be a folder, but it is none; choose another place.")
    if not folder:
        for name in names:
            _require_replaceable(absolute.with_name(name), path, error)
    try:
        _try(place, longest=max(len(os.fsencode(each)) for each in (*names, *(part.name for part in above))))
    except OSError as failure:
        raise error(
            f"{path}: the folder {place} cannot be written to ({failure.strerror}); change its rights, or "
            "choose another place."
        ) from failure


def _require_replaceable(target: Path, path: Path, error: type[EmmaVizError]) -> None:
    try:
        about = target.lstat()  # one look: another process may remove it meanwhile
    except (FileNotFoundError, NotADirectoryError):
        return
    if stat.S_ISDIR(about.st_mode) or (stat.S_ISLNK(about.st_mode) and target.is_dir()):
        raise error(
            f"{path}: expected the name of a file to write, but {target} is a folder; choose another name."
        )
    if not (stat.S_ISREG(about.st_mode) or stat.S_ISLNK(about.st_mode)):
        raise error(f"{path}: {target} is a pipe or device, which is not replaced; choose another name.")
    above = target.parent.stat()
    # In a folder such as /tmp, nobody but their owners may replace files.
    shared = above.st_mode & stat.S_ISVTX and hasattr(os, "geteuid")
    if shared and os.geteuid() not in (0, about.st_uid, above.st_uid):
        raise error(f"{path}: {target} belongs to somebody else and cannot be replaced; choose another name.")


def _is_there(path: Path) -> bool:
    """Whether there is anything, also a link that leads nowhere; other failures of looking are not hidden."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _try(place: Path, *, longest: int) -> None:
    """Write a byte to a file of a name as long as the longest: some file systems hold less than others."""
    # A name of a file that is being written, so that it is swept if this process is killed here.
    end = f".{secrets.token_hex(6)}.part"
    probe = place / f".{'x' * max(1, longest - 1 - len(end))}{end}"
    handle = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.write(handle, b"\0")
    finally:
        os.close(handle)
        os.unlink(probe)
