"""Compiled kernels are compiled again after any edit that matters to them."""

import errno
import gc
import importlib
import logging
import os
import pickle
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("numba")

import numba
from numba import njit
from numba.core.registry import CPUDispatcher

from emma_viz.kernels.numba import cache as numba_cache
from emma_viz.kernels.numba import conv as numba_conv
from emma_viz.kernels.numba import linear as numba_linear
from emma_viz.kernels.numba import norm as numba_norm
from emma_viz.kernels.numba import scan as numba_scan
from emma_viz.kernels.numba import ssd as numba_ssd
from emma_viz.kernels.numba import steps as numba_steps

KERNELS = [
    kernel
    for module in (numba_conv, numba_linear, numba_norm, numba_scan, numba_ssd, numba_steps)
    for kernel in [
        *vars(module).values(),
        *getattr(module, "NAMED_SUMS", {}).values(),
        *getattr(module, "SIDE_BY_SIDE", {}).values(),
    ]
    if isinstance(kernel, CPUDispatcher) and kernel.targetoptions.get("nogil")
]

ALL_OF_THEM = """
import torch
from emma_viz import kernels
torch.manual_seed(0)
r = torch.randn
found, leaves = [], []
def forward(dtype, wanted):
    def seq(*shape):
        leaves.append(r(*shape).to(dtype).requires_grad_(wanted))
        return leaves[-1]
    found.extend(kernels.selective_scan(
        seq(2, 30, 70), seq(2, 30, 70), -torch.rand(70, 4), seq(2, 30, 4), seq(2, 30, 4), r(70), z=seq(2, 30, 70),
        delta_bias=r(70), delta_softplus=True, backend="cpu",
    ))
    found.extend(kernels.ssd(
        seq(2, 30, 2, 40), seq(2, 30, 2), -torch.rand(2), seq(2, 30, 1, 4), seq(2, 30, 1, 4), r(2), dt_bias=r(2),
        dt_softplus=True, backend="cpu",
    ))
    x = seq(2, 30, 70)
    found.extend(kernels.causal_conv1d(x, r(70, 4).to(dtype), r(70).to(dtype), activation="silu", backend="cpu"))
    found.append(kernels.gated_rms_norm(seq(2, 30, 70), seq(2, 30, 70), r(70).to(dtype), groups=1, eps=1e-5))
for dtype in (torch.float32, torch.bfloat16):
    forward(dtype, False)
forward(torch.float32, True)
sum(each.sum() for each in found if each.requires_grad).backward()
found = [each.detach() for each in [*found, *(leaf.grad for leaf in leaves if leaf.requires_grad)]]
found.extend(kernels.selective_scan_step(
    r(2, 70, 4), r(2, 70), r(2, 70), -torch.rand(70, 4), r(2, 4), r(2, 4), r(70), z=r(2, 70), delta_softplus=True
))
found.extend(kernels.ssd_step(r(2, 2, 40, 4), r(2, 2, 40), r(2, 2), -torch.rand(2), r(2, 1, 4), r(2, 1, 4), r(2)))
found.extend(kernels.causal_conv1d_step(r(2, 3, 70), r(2, 70), r(70, 4), r(70), activation="silu"))
weight = r(417, 640)
for rows in (1, 2, 8, 16):
    found.append(kernels.linear(r(rows, 640), weight))
found.append(kernels.linear(r(1, 640).bfloat16(), weight.bfloat16()))
for each in found:
    print(each.double().nan_to_num().view(torch.int64).sum().item())
"""


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


def test_kernels_run_where_no_folder_can_be_written(double, tmp_path, monkeypatch, caplog):
    (tmp_path / "home").touch()
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    compiled = njit(double)
    numba_cache._say_uncached.cache_clear()
    with caplog.at_level(logging.WARNING, logger="emma_viz.kernels"):
        compiled._cache = numba_cache.cache_of(double)
    assert compiled.py_func is double
    assert compiled(3) == 6
    assert "in every process" in caplog.text
    assert "set NUMBA_CACHE_DIR" in caplog.text


@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
@pytest.mark.parametrize("left", [0, 5, -20], ids=["empty", "begun", "cut short"])
def test_a_file_that_was_cut_short_is_made_again(double, ending, left):
    assert loads_and_misses(double) == (0, 1)
    (broken,) = Path(numba_cache.SourcesCache(double).cache_path).glob(f"*{ending}")
    broken.write_bytes(broken.read_bytes()[:left])
    assert loads_and_misses(double) == (0, 1)
    assert loads_and_misses(double) == (1, 0)


def test_two_that_compile_at_once_do_not_get_each_others_code(double):
    """Both read the index before either wrote it, and write its files in any order."""
    gc.collect()
    whole, half = (numba_cache.SourcesCache(double)._cache_file for _ in range(2))
    whole._load_index = half._load_index = dict
    whole.save(("float", "machine"), "of a float")
    half.save(("integer", "machine"), "of an integer")
    whole._save_data(whole._data_name(1), "of a float")
    after = numba_cache.SourcesCache(double)._cache_file
    assert after.load(("integer", "machine")) == "of an integer"
    assert after.load(("float", "machine")) in (None, "of a float")


@pytest.mark.slow
def test_two_processes_compile_at_once(tmp_path):
    code = """
import torch
from emma_viz import kernels
y, _ = kernels.causal_conv1d(torch.ones(2, 3, 5), torch.ones(5, 2), backend="cpu")
assert y[0, :, 0].tolist() == [1, 2, 2], y
from emma_viz.kernels.numba.conv import conv_forward
print(sum(conv_forward.stats.cache_hits.values()))
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}

    def start():
        return subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
        )

    both = [start(), start()]
    assert [(each.communicate()[0], each.returncode)[1] for each in both] == [0, 0]
    after = start()
    assert (after.communicate()[0].strip(), after.returncode) == ("1", 0)


@pytest.mark.slow
def test_who_compiles_and_who_reads_what_was_compiled_get_the_same_bits(tmp_path):
    """A function that two libraries have is called in the one that was optimised first, until the next process."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (
        subprocess.run([sys.executable, "-c", ALL_OF_THEM], env=environment, capture_output=True, text=True)
        for _ in range(2)
    )
    assert first.returncode == 0, first.stderr
    assert "compiling" in first.stderr
    assert "compiling" not in second.stderr
    assert len(first.stdout.splitlines()) > 40
    assert first.stdout == second.stdout


def test_compiling_says_once_what_it_does(double, caplog):
    numba_cache._say_compiling.cache_clear()
    with caplog.at_level(logging.WARNING, logger="emma_viz.kernels"):
        assert loads_and_misses(double) == (0, 1)
        assert loads_and_misses(double) == (1, 0)
    assert len(caplog.records) == 1
    assert "compiling the CPU kernels for this machine" in caplog.text


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
