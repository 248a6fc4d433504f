"""Benchmarks: files of questions with known answers, read into one kind of record whatever they look like."""

from emma_viz.records.benchmarks.kinds import GROUP, Benchmark, benchmark, names, parsed
from emma_viz.records.benchmarks.reading import picture, read_benchmark
from emma_viz.records.benchmarks.record import BenchmarkRecord, Key, RecordSet
from emma_viz.records.benchmarks.rows import Row, rows_of

__all__ = [
    "GROUP",
    "Benchmark",
    "BenchmarkRecord",
    "Key",
    "RecordSet",
    "Row",
    "benchmark",
    "names",
    "parsed",
    "picture",
    "read_benchmark",
    "rows_of",
]
