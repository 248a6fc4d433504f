"""Arrays on disk that are filled part by part."""

import errno
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from emma_viz.errors import TrainingError


def new_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.memmap:
    """A new array in a file, memory-mapped, whose space on the disk is reserved where the file system can do so.

    A map without its space ends the process by a signal, without a word, when the disk is full as it is filled.

    Args:
        path: the file; it is replaced.
        dtype: of the array.
        shape: of the array.

    Raises:
        TrainingError: there is no room for it; no file is left.
    """
    try:
        array = np.lib.format.open_memmap(path, "w+", dtype, shape)
        if hasattr(os, "posix_fallocate"):  # not on macOS
            _reserve(path)
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        size = np.dtype(dtype).itemsize * np.prod(shape, dtype=np.int64) / 1e6
        raise TrainingError(
            f"{path} needs {size:.2f} MB, and there is no room for it: {error.strerror or error}. Make room and run "
            "again: what is finished is kept."
        ) from error
    return array


def _reserve(path: Path) -> None:
    """Reserve the space of a file, where the file system can."""
    with path.open("rb+") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
