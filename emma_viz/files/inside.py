"""Names that were found in a file, and the paths they may stand for: never one outside the folder that holds it."""

import unicodedata
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

    Returns:
        `folder` joined with the names; links in it are not replaced.

    Raises:
        EmmaVizError: of the kind `error`: a name is not bare (see `require_bare`), it leads out of `within`, or it is
            something else than `kind`.
    """
    said = where or str(folder)
    path = folder.joinpath(*(require_bare(name, where=said, error=error) for name in names))
    require_inside(path, within or folder, error=error, where=said, kind=kind)
    return path


def require_inside(
    path: Path,
    folder: Path,
    *,
    error: type[EmmaVizError],
    where: str | None = None,
    kind: Literal["file", "folder"] = "file",
) -> None:
    """Refuse a path that leads out of a folder, or is there and neither a regular file nor a folder.

    Raises:
        EmmaVizError: of the kind `error`.
    """
    try:
        real = path.resolve()
        # Parts that are not there resolve to themselves: names are bare, so they lie where they seem to.
        if not real.is_relative_to(folder.resolve()):
            raise error(
                f"{where or folder}: {path.name!r} is a link that leads out of {folder}. Nothing was opened; copy the "
                "file there if it is yours."
            )
        fits = path.is_file() if kind == "file" else path.is_dir()
        if path.exists() and not fits:
            raise error(f"{where or folder}: expected {path.name!r} to be a regular {kind}, and it is none.")
    except (OSError, ValueError, RuntimeError) as failure:
        raise error(f"{path} cannot be looked at ({failure}).") from failure
