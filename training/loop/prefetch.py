"""Batches that are prepared ahead, so that no step waits for data."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

_Batch = TypeVar("_Batch")


class Prefetcher(Generic[_Batch]):
    """Makes the batches of consecutive steps in background threads and gives them out in order.

    What a step gets does not depend on the threads' timing, because `make` must be a function of the step alone.
    Reading, decoding and resizing images, and tokenizing release Python's lock, so threads are enough.

    Examples:
        >>> with Prefetcher(make, range(first, last)) as batches:
        ...     for batch in batches:
        ...         train_on(batch)

    Args:
        make: step → batch; called from several threads.
        steps: the steps, in order.
        ahead: batches that are ready or being made, beyond the one in use: bounds the memory.
        workers: threads; 0: each batch is made when it is asked for.
    """

    def __init__(self, make: Callable[[int], _Batch], steps: range, *, ahead: int = 4, workers: int = 2):
        self._make, self._ahead = make, max(1, ahead)
        self._steps = iter(steps)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="prefetch") if workers else None
        self._waiting: deque[Future[_Batch]] = deque()
        self.waited = 0.0
        """Seconds that the consumer has waited in all."""

    def __enter__(self) -> "Prefetcher[_Batch]":
        self._fill()
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[_Batch]:
        return self

    def __next__(self) -> _Batch:
        """The next step's batch.

        Raises:
            Exception: whatever `make` raised for that step.
        """
        self._fill()
        started = time.perf_counter()
        if self._pool is None:
            batch = self._make(next(self._steps))
        elif self._waiting:
            batch = self._waiting.popleft().result()
        else:
            raise StopIteration
        self.waited += time.perf_counter() - started
        self._fill()
        return batch

    def _fill(self) -> None:
        while self._pool is not None and len(self._waiting) < self._ahead:
            step = next(self._steps, None)
            if step is None:
                return
            self._waiting.append(self._pool.submit(self._make, step))
