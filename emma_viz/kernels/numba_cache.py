"""Numba's compilation cache, keyed on the sources of all kernels.

Numba itself looks only at the file of the cached function: after an edit of a function that it calls, or of a constant
that it uses, from another file, it would go on running what was compiled before.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

from numba.core.caching import FunctionCache, IndexDataCacheFile


def sources_digest(folder: Path) -> str:
    """A digest of the names and contents of the numba files of a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("numba_*.py")):
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


SOURCES = sources_digest(Path(__file__).parent)


class SourcesCache(FunctionCache):
    """A function's cache that is stale as soon as any of the kernels' files has changed."""

    def __init__(self, function: Callable[..., None]):
        super().__init__(function)
        self._cache_file = IndexDataCacheFile(
            cache_path=self._cache_path, filename_base=self._impl.filename_base, source_stamp=SOURCES
        )
