"""The benchmarks there are: how the files of each become records.

A benchmark is one line of `_BUILT_IN`, or an entry point of the group `emma_viz.benchmarks` in any installed package,
whose name is the benchmark's and whose object is a `Benchmark` (docs/extending/add-a-benchmark.md).
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emma_viz.errors import InputError, RecordError
from emma_viz.plugins import Plugins
from emma_viz.records.benchmarks.record import BenchmarkRecord
from emma_viz.records.benchmarks.rows import Row, benchmark_rows

FoundRecord = tuple[BenchmarkRecord, str | None]
"""A record, and the answer that stood beside it."""
Complain = Callable[[RecordError], None]
"""Called with what is wrong with a row, its file and line named; the row is left out."""
Read = Callable[[Sequence[Path], Complain], Iterator[FoundRecord]]
"""(files, complain) → what they hold, in order."""
ReadBeside = Callable[[Sequence[Path], Complain], Read]
"""(a benchmark's own files, complain) → what reads files of answers beside them."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark: where its files come from, how they are read, and how it is scored."""

    title: str
    """What it asks, in a line."""
    source: str
    """Where its files are published, and under which licence."""
    read: Read
    """How its files become records."""
    scorers: tuple[str, ...]
    """Names in `emma_viz.records.scorers`: those that tables of it show; the first counts."""
    endings: tuple[str, ...] = (".json", ".jsonl")
    """How the names of its files end, in small letters, when a folder is named."""
    places: tuple[str, ...] = ("{image}", "{split}/{image}")
    """Where images may lie in the image folder."""
    draw: Callable[[BenchmarkRecord], Any] | None = None
    """For images that are drawn and lie nowhere: record → uint8 array (height, width, 3)."""
    mask: Callable[[BenchmarkRecord], Any] | None = None
    """Where the object is that a record asks about: record → bool array (height, width), or None where it is not there
    or not known."""
    mentions: Callable[[BenchmarkRecord, str], tuple[str, ...]] | None = None
    """For descriptions: (record, text) → the objects that a text names, each as often as it does."""
    bundled: bool = False
    """Whether `read` needs no files."""
    beside: ReadBeside | None = None
    """For answers in files that hold no truth: reads the benchmark's own files once, and gives what reads each file of
    answers beside them. None where such files hold it, as MME's do."""


def parsed(
    path: Path, parse: Callable[[Row], FoundRecord], complain: Complain, *, columns: tuple[str, ...] = ()
) -> Iterator[FoundRecord]:
    """The records of one file, row by row; a row that raises is complained about, with its file and line.

    Args:
        path: the file.
        parse: row → record; raises InputError without a place.
        complain: as for `Read`.
        columns: as for `emma_viz.records.benchmarks.rows.benchmark_rows`.
    """
    for row in benchmark_rows(path, columns=columns):
        try:
            found = parse(row)
        except InputError as error:
            complain(RecordError(f"{row.where}: {error}"))
            continue
        yield found


_BUILT_IN = {
    name: f"emma_viz.records.benchmarks.{name}:BENCHMARK"
    for name in ("pope", "hallusionbench", "amber", "chair", "mme", "plain", "tabletop")
}


_PLUGINS = Plugins(
    group="emma_viz.benchmarks", what="benchmark", expected=Benchmark, ours=_BUILT_IN, error=InputError
)


def names() -> tuple[str, ...]:
    """The benchmarks there are: our own, then those of installed packages."""
    return _PLUGINS.names()


def benchmark(name: str) -> Benchmark:
    """One benchmark.

    Args:
        name: as `names` has it.

    Raises:
        InputError: there is no such benchmark, or the package that brings it cannot be imported.
    """
    if name not in _BUILT_IN:
        return _PLUGINS.bring(name)
    module, _, attribute = _BUILT_IN[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
