"""Numba's compilation cache, keyed on the sources of all kernels.

Numba itself looks only at the file of the cached function: after an edit of a function that it calls, or of a constant
that it uses, from another file, it would go on running what was compiled before. And it would write beside that file:
here, what is compiled goes to NUMBA_CACHE_DIR or the user's own cache folder, never into the package, and serves
every copy of the same sources, wherever each is installed. Nor does numba read past a file that was cut short, or
keep two processes apart that compile at once: both would give their machine code the same name.
"""

import hashlib
import logging
import pickle
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache

_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ImportError,
    pickle.PickleError,
)
"""What reading a pickle that was cut short or written by other versions can end in."""

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


class KernelFiles(IndexDataCacheFile):
    """The index of a kernel's machine code, and the files with it, as numba lays them out.

    A broken one counts as one that is not there: what it held is compiled again and put in its place.
    """

    def save(self, key: Any, data: Any) -> None:
        """Keep machine code under a name of its own: whichever process writes the index last names the right one."""
        number = int(hashlib.sha256(repr(key).encode()).hexdigest()[:16], 16)
        name = self._data_name(number)
        self._save_data(name, data)
        self._save_index({**self._load_index(), key: name})

    def _load_index(self) -> dict[Any, str]:
        try:
            return super()._load_index()
        except _UNREADABLE as error:
            _log.info("what was compiled before cannot be read: %s: %r", self._index_path, error)
            return {}

    def _load_data(self, name: str) -> Any:
        try:
            return super()._load_data(name)
        except _UNREADABLE as error:
            raise OSError(f"{name} cannot be read: {error!r}") from error


class SourcesCache(FunctionCache):
    """A function's cache that is stale as soon as any of the kernels' files has changed."""

    _impl_class = _OutsideThePackage

    def __init__(self, function: Callable[..., None]):
        super().__init__(function)
        self._cache_file = KernelFiles(
            cache_path=self._cache_path,
            # The name says which sources: an index of other ones may name classes that are no more.
            filename_base=f"{self._impl.filename_base}.{_SOURCES[:16]}",
            source_stamp=_SOURCES,
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """What was compiled before, or None; says once a process that compiling takes a while."""
        found = super().load_overload(sig, target_context)
        if found is None:
            _say_compiling(self._cache_path)
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled; where it cannot be written, it is compiled again next time."""
        with suppress(OSError):
            super().save_overload(sig, data)


def cache_of(function: Callable[..., None]) -> SourcesCache | NullCache:
    """A kernel's cache; none where no folder for it can be written, so that it is compiled in every process."""
    try:
        return SourcesCache(function)
    except RuntimeError as error:  # "cannot cache function …: no locator available …"
        _say_uncached(str(error))
        return NullCache()


@cache
def _say_compiling(place: str) -> None:
    _log.warning("compiling the CPU kernels for this machine, some seconds, once (kept in %s)", place)


@cache
def _say_uncached(reason: str) -> None:
    _log.warning(
        "compiling the CPU kernels takes some seconds in every process: %s; set NUMBA_CACHE_DIR", reason
    )
