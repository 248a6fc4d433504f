"""Runs numba kernels on as many threads as torch uses, from any Python thread.

A kernel lets go of the interpreter, so that plain Python threads run it side by side; the calling thread takes the
first share. Nothing depends on which threading libraries there are, and a process may fork afterwards.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


def thread_count() -> int:
    """Threads that a kernel runs on: torch's setting."""
    return torch.get_num_threads()


def run_kernel(kernel: Callable[..., None], *arguments: object, workers: int | None = None) -> None:
    """Call a parallel kernel once for each of some threads (torch's), each with its share of the tasks."""
    workers = thread_count() if workers is None else workers
    others = [_pool(workers - 1).submit(kernel, worker, workers, *arguments) for worker in range(1, workers)]
    kernel(0, workers, *arguments)
    for other in others:
        other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="emma-viz-kernel")


if hasattr(os, "register_at_fork"):  # Windows has none, and no fork
    # A child has no threads but the one that forked it.
    os.register_at_fork(after_in_child=_pool.cache_clear)
