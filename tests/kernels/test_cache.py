"""Compiled kernels are compiled again after any edit that matters to them."""

import errno
import gc
import importlib
import pickle
import sys
from contextlib import contextmanager

import pytest

pytest.importorskip("numba")

import numba
from numba import njit

from emma_viz.kernels.numba import cache as numba_cache
from emma_viz.kernels.numba import conv as numba_conv
from emma_viz.kernels.numba import scan as numba_scan
from emma_viz.kernels.numba import ssd as numba_ssd

KERNELS = (
    numba_conv.conv_forward,
    numba_conv.conv_backward,
    numba_scan.scan_forward,
    numba_scan.scan_backward,
    numba_ssd.prepare,
    numba_ssd.ssd_forward,
)


@contextmanager
def installed(folder):
    # A module that can be imported: a cached function looks its module up by name.
    (folder / "doubling_kernel.py").write_text("def double(x):\n    return 2 * x\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module("doubling_kernel").double
    sys.modules.pop("doubling_kernel", None)


@pytest.fixture
def double(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    with installed(tmp_path) as function:
        yield function


def loads_and_misses(function):
    gc.collect()  # What an earlier call compiled must come from the disk, not from memory.
    compiled = njit(cache=True)(function)
    compiled._cache = numba_cache.SourcesCache(function)
    assert compiled(3) == 6
    return sum(compiled.stats.cache_hits.values()), sum(compiled.stats.cache_misses.values())


def test_a_change_in_any_kernel_file_makes_the_cache_stale(double, monkeypatch):
    assert loads_and_misses(double) == (0, 1)
    assert loads_and_misses(double) == (1, 0)
    monkeypatch.setattr(numba_cache, "_SOURCES", "after an edit in another file")
    assert loads_and_misses(double) == (0, 1)
    assert loads_and_misses(double) == (1, 0)


def test_the_digest_follows_every_kernel_file(tmp_path):
    (tmp_path / "one.py").write_text("ONE = 1")
    (tmp_path / "two.py").write_text("TWO = 2")
    before = numba_cache.sources_digest(tmp_path)
    assert numba_cache.sources_digest(tmp_path) == before
    (tmp_path / "notes.md").write_text("")
    assert numba_cache.sources_digest(tmp_path) == before
    (tmp_path / "two.py").write_text("TWO = 3")
    assert numba_cache.sources_digest(tmp_path) != before


def test_what_is_compiled_serves_every_copy_of_the_same_sources(double, tmp_path_factory):
    assert loads_and_misses(double) == (0, 1)
    del sys.modules["doubling_kernel"]
    with installed(tmp_path_factory.mktemp("elsewhere")) as again:
        assert again.__code__.co_filename != double.__code__.co_filename
        assert loads_and_misses(again) == (1, 0)


def test_nothing_is_written_beside_the_sources(double, tmp_path):
    assert loads_and_misses(double) == (0, 1)
    assert not list(tmp_path.rglob("*.nb?"))


def test_kernels_run_where_no_folder_can_be_written(double, tmp_path, monkeypatch):
    (tmp_path / "home").touch()
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    compiled = njit(double)
    compiled._cache = numba_cache.cache_of(double)
    assert compiled.py_func is double
    assert compiled(3) == 6


def test_a_full_disk_does_not_stop_a_kernel(double, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(numba_cache.IndexDataCacheFile, "save", full)
    assert loads_and_misses(double) == (0, 1)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.__name__)
def test_every_kernel_has_that_cache(kernel):
    assert isinstance(kernel._cache, numba_cache.SourcesCache)


def test_an_index_that_names_what_other_sources_had_is_not_read(double, monkeypatch):
    assert loads_and_misses(double) == (0, 1)
    kept = numba_cache.SourcesCache(double)._cache_file
    with open(kept._index_path, "wb") as file:
        file.write(pickle.dumps(kept._version) + b"cdoubling_kernel\nGone\n.")
    monkeypatch.setattr(numba_cache, "_SOURCES", "other sources")
    assert loads_and_misses(double) == (0, 1)
