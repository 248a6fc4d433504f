"""Names that were found in a file, and the paths they may stand for: never one outside the folder that holds it."""

import itertools
import os
import stat
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import Literal

from emma_viz.errors import EmmaVizError

LONGEST = 255
"""Bytes of the longest file name that common file systems hold."""
_SIGNS = frozenset('/\\:*?"<>|')
"""Signs that part paths, or that a file system gives a meaning of its own."""


def require_bare(name: object, *, where: str, error: type[EmmaVizError]) -> str:
    """A name that stands for a file in its own folder and nothing else.

    Args:
        name: what a file said.
        where: that file, for messages.
        error: what is raised.

    Raises:
        EmmaVizError: of the kind `error`: it is empty, no text, a path, begins with a dot, holds signs that are no
            part of a file's name, or has more than 255 bytes.
    """
    if (
        not isinstance(name, str)
        or not name
        or name.startswith(".")
        or not name.isprintable()
        or any(sign in _SIGNS for sign in name)
        or unicodedata.normalize("NFC", name) in (".", "..")
        or len(name.encode()) > LONGEST
    ):
        raise error(
            f"{where}: expected the bare name of a file beside it, got {str(name)[:100]!r}. The file was changed or "
            "is not what it seems; nothing was opened."
        )
    return name


def inside(
    folder: Path,
    *names: object,
    error: type[EmmaVizError],
    where: str | None = None,
    kind: Literal["file", "folder"] = "file",
    within: Path | None = None,
    links: bool = True,
) -> Path:
    """The path of a file or folder that a file names, after it was made sure that it lies inside.

    What is not there yet may be named; what is there must be a regular file (or a folder), and lie in `within` when
    all links are resolved.

    Args:
        folder: where the first name is looked for.
        names: bare names, each in the folder of the one before.
        error: what is raised.
        where: the file that holds the names, for messages; the folder when None.
        kind: what it must be if it is there.
        within: the folder that links may not lead out of; `folder` when None.
        links: whether what is named, or a folder on the way to it, may be a link that stays inside.

    Returns:
        `folder` joined with the names; links in it are not replaced.

    Raises:
        EmmaVizError: of the kind `error`: a name is not bare (see `require_bare`), it leads out of `within`, it is
            something else than `kind`, or a link where there may be none.
    """
    said = where or str(folder)
    path = folder.joinpath(*(require_bare(name, where=said, error=error) for name in names))
    require_inside(path, within or folder, error=error, where=said, kind=kind, links=links)
    return path


def require_inside(
    path: Path,
    folder: Path,
    *,
    error: type[EmmaVizError],
    where: str | None = None,
    kind: Literal["file", "folder"] = "file",
    links: bool = True,
) -> None:
    """Refuse a path that leads out of a folder, or is there and neither a regular file nor a folder.

    Args:
        path: below `folder`.
        folder: what it must lie in; this may itself be a link.
        error: what is raised.
        where: the file that named it, for messages; the folder when None.
        kind: what it must be if it is there.
        links: whether it, or a folder between, may be a link that stays inside.

    Raises:
        EmmaVizError: of the kind `error`.
    """
    try:
        if not links:
            _require_no_link(path, folder, error=error, where=where)
        # Parts that are not there resolve to themselves: names are bare, so they lie where they seem to.
        elif not path.resolve().is_relative_to(folder.resolve()):
            raise error(
                f"{where or folder}: {path.name!r} is a link that leads out of {folder}. Nothing was opened; copy the "
                "file there if it is yours."
            )
        with suppress(FileNotFoundError, NotADirectoryError):
            mode = path.stat().st_mode  # one look: another process may make or remove it meanwhile
            if not (stat.S_ISREG(mode) if kind == "file" else stat.S_ISDIR(mode)):
                raise error(
                    f"{where or folder}: expected {path.name!r} to be a regular {kind}, and it is none."
                )
    except EmmaVizError:
        raise  # some are a ValueError, too
    except (OSError, ValueError, RuntimeError) as failure:
        raise error(f"{path} cannot be looked at ({failure}).") from failure


def _require_no_link(path: Path, folder: Path, *, error: type[EmmaVizError], where: str | None) -> None:
    """What has no link on its way lies where its name says."""
    for place in itertools.takewhile(lambda place: place != folder, (path, *path.parents)):
        with suppress(FileNotFoundError):
            about = os.lstat(place)
            if stat.S_ISLNK(about.st_mode) or getattr(about, "st_reparse_tag", 0):  # a junction of Windows
                raise error(
                    f"{where or folder}: {place.relative_to(folder)} is a link, and none may be there. Nothing was "
                    "opened; put the real file or folder there if it is yours."
                )
