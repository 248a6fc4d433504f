"""Processes of one machine that share the images, each a shard of them."""

import math
import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from emma_viz.cli import programs
from emma_viz.errors import StudyError
from emma_viz.progress import Progress
from probes.ledger import batches_in

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_POLL_SECONDS, _LOOK_SECONDS = 0.1, 5.0
_AGAIN = "Give the command again to go on from what was seen."


@dataclass(frozen=True, kw_only=True)
class _Job:
    name: str
    process: subprocess.Popen
    said: IO[str]

    def end(self) -> None:
        """Leave no process behind."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()

    def failure(self) -> str:
        """What it said last, without the program's name before it."""
        self.said.seek(0)
        lines = [line for line in self.said.read().splitlines() if line.strip()]
        code = self.process.returncode
        last = lines[-1].rpartition(": error: ")[2].strip() if lines else f"it ended with {code}."
        return f"{self.name}: {last} {_AGAIN}"


def share_out(
    arguments: Sequence[str], jobs: int, *, seen: Path, total: int, progress: Progress | None = None
) -> None:
    """Run the command once for each shard, all at a time, and wait; the cores are parted evenly among them.

    Args:
        arguments: of the command, without `--shard`.
        jobs: how many processes.
        seen: where they keep what they have seen.
        total: batches that all of them see, counted once for each probe and model.
        progress: is told how many of them are kept.

    Raises:
        StudyError: one failed; the others are ended, and what was seen is kept.
    """
    with ExitStack() as stack:
        started = []
        for index in range(1, jobs + 1):
            said = stack.enter_context(TemporaryFile("w+", encoding="utf-8", errors="replace"))
            started.append(_start(arguments, index, jobs, said))
            stack.callback(started[-1].end)
        looked = -math.inf
        while any(each.process.poll() is None for each in started):
            _require_well(started)
            if progress and time.monotonic() - looked >= _LOOK_SECONDS:
                looked = time.monotonic()
                kept = sum(batches_in(file) for file in seen.glob(f"*/*.shard-*-of-{jobs}.npz"))
                progress(min(kept, total), total, f"examining in {jobs} processes")
            time.sleep(_POLL_SECONDS)
        _require_well(started)


def _require_well(jobs: Sequence[_Job]) -> None:
    """Refuse to go on without one that has ended badly."""
    for each in jobs:
        if each.process.poll():
            raise StudyError(each.failure())


def _start(arguments: Sequence[str], index: int, jobs: int, said: IO[str]) -> _Job:
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    end = arguments.index("--") if "--" in arguments else len(arguments)
    part = ["--jobs", "1", "--shard", f"{index}/{jobs}"]
    words, environment = programs.process("emma_viz", ["probe", *arguments[:end], *part, *arguments[end:]])
    process = subprocess.Popen(
        words,
        env=environment | dict.fromkeys(_THREADS, threads),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=said,
    )
    return _Job(name=f"process {index} of {jobs}", process=process, said=said)
