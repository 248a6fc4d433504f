"""Runs numba kernels on as many threads as torch uses, from any Python thread.

Numba's OpenMP layer shares torch's thread pool (both load the same libgomp), so that the two do not compete for
cores. Where it is missing, numba falls back to TBB or to its own work queue; the latter must not be entered by two
threads at once, hence the lock.
"""

import os
import threading
from collections.abc import Callable
from contextlib import nullcontext

import numba
import torch

if "NUMBA_THREADING_LAYER_PRIORITY" not in os.environ:
    numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]  # ty: ignore[missing-attribute]

_ONE_AT_A_TIME = threading.Lock()


def thread_count() -> int:
    """Threads that a kernel runs on: torch's setting, as far as numba was started with as many."""
    limit = numba.config.NUMBA_NUM_THREADS  # ty: ignore[missing-attribute]
    return max(1, min(torch.get_num_threads(), limit))


def run_kernel(kernel: Callable[..., None], *arguments: object) -> None:
    """Call a parallel kernel with torch's number of threads."""
    threads = torch.get_num_threads()
    before = numba.get_num_threads()
    if torch.get_num_threads() != threads:
        # The first call starts numba's OpenMP layer, which sets the thread count of the pool that it shares with torch.
        torch.set_num_threads(threads)
    numba.set_num_threads(thread_count())
    try:
        with nullcontext() if _threadsafe() else _ONE_AT_A_TIME:
            kernel(*arguments)
    finally:
        numba.set_num_threads(before)


def _threadsafe() -> bool:
    return numba.threading_layer() in ("omp", "tbb")
