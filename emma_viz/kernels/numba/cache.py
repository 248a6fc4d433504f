"""Numba's compilation cache, keyed on the sources of all kernels.

Numba itself looks only at the file of the cached function: after an edit of a function that it calls, or of a constant
that it uses, from another file, it would go on running what was compiled before. And it would write beside that file:
here, what is compiled goes to NUMBA_CACHE_DIR or the user's own cache folder, never into the package, and serves
every copy of the same sources, wherever each is installed.
"""

import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache

_log = logging.getLogger("emma_viz.kernels")


def sources_digest(folder: Path) -> str:
    """A digest of the names and contents of the numba files of a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


_SOURCES = sources_digest(Path(__file__).parent)


class _OfAnyPlace:
    @classmethod
    def get_suitable_cache_subpath(cls, _: str) -> str:
        return "emma_viz"


class _OutsideThePackage(FunctionCache._impl_class):
    _locator_classes = tuple(
        type(each.__name__, (_OfAnyPlace, each), {})
        for each in FunctionCache._impl_class._locator_classes
        if "InTree" not in each.__name__
    )


class SourcesCache(FunctionCache):
    """A function's cache that is stale as soon as any of the kernels' files has changed."""

    _impl_class = _OutsideThePackage

    def __init__(self, function: Callable[..., None]):
        super().__init__(function)
        self._cache_file = IndexDataCacheFile(
            cache_path=self._cache_path,
            # The name says which sources: an index of other ones may name classes that are no more.
            filename_base=f"{self._impl.filename_base}.{_SOURCES[:16]}",
            source_stamp=_SOURCES,
        )

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled; where it cannot be written, it is compiled again next time."""
        with suppress(OSError):
            super().save_overload(sig, data)


def cache_of(function: Callable[..., None]) -> SourcesCache | NullCache:
    """A kernel's cache; none where no folder for it can be written, so that it is compiled in every process."""
    try:
        return SourcesCache(function)
    except RuntimeError as error:  # "cannot cache function …: no locator available …"
        _log.info("kernels are compiled anew in every process: %s (set NUMBA_CACHE_DIR)", error)
        return NullCache()
