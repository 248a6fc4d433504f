"""Arrays in numpy's own files (.npy, .npz), which programs keep for themselves: never unpickled, of a limited size."""

import os
import zipfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from emma_viz.errors import EmmaVizError
from emma_viz.files.json_door import open_regular
from emma_viz.files.zips import ZIP_DAMAGE

_DAMAGE = (*ZIP_DAMAGE, ValueError, KeyError, RuntimeError, MemoryError)
"""What numpy and zipfile raise on damaged bytes."""


def read_npz(
    path: Path,
    *,
    error: type[EmmaVizError],
    mend: str,
    names: Sequence[str] | None = None,
    limit: int | None = None,
) -> dict[str, np.ndarray]:
    """The arrays of a .npz file.

    Args:
        path: the file.
        error: what is raised.
        mend: a sentence on what to do where it is damaged.
        names: of the arrays to read; all when None.
        limit: bytes that those arrays together may unpack to; None: as many as the file has, which is enough for what
            `np.savez` writes, of any size, and for nothing packed.

    Raises:
        EmmaVizError: of the kind `error`: the file is missing, damaged or pickled, or its arrays are larger than
            `limit`.
    """
    with open_regular(path, error=error) as file, _explained(path, error, mend):
        with zipfile.ZipFile(file) as archive:
            _require_small(archive, os.fstat(file.fileno()).st_size if limit is None else limit, names)
        file.seek(0)
        with np.load(file, allow_pickle=False) as found:
            return {name: found[name] for name in (found.files if names is None else names)}


def _require_small(archive: zipfile.ZipFile, limit: int, names: Sequence[str] | None) -> None:
    read = [
        each.file_size
        for each in archive.infolist()
        if names is None or each.filename.removesuffix(".npy") in names
    ]
    if (size := sum(read)) > limit:
        raise ValueError(f"its arrays would take {size:,} bytes, at most {limit:,} are read")


def read_npy(path: Path, *, error: type[EmmaVizError], mend: str, mapped: bool = False) -> np.ndarray:
    """The array of a .npy file, of any shape.

    Args:
        path: the file.
        error: what is raised.
        mend: a sentence on what to do where it is damaged.
        mapped: read its values when they are used.

    Raises:
        FileNotFoundError: there is none.
        EmmaVizError: of the kind `error`: the file is damaged, pickled, or no such file.
    """
    with _explained(path, error, mend):
        if mapped:
            return np.lib.format.open_memmap(path, mode="r")
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)


@contextmanager
def _explained(path: Path, error: type[EmmaVizError], mend: str) -> Generator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except _DAMAGE as failure:
        raise error(f"{path} is damaged ({failure}). {mend}") from failure
