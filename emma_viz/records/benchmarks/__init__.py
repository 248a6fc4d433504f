"""Benchmarks: files of questions with known answers, read into one kind of record whatever they look like."""

from emma_viz.records.benchmarks.kinds import Benchmark, benchmark, names, parsed
from emma_viz.records.benchmarks.reading import answers_beside, picture, read_benchmark
from emma_viz.records.benchmarks.record import BenchmarkRecord, Key, RecordSet
from emma_viz.records.benchmarks.rows import Row, benchmark_rows

__all__ = [
    "Benchmark",
    "BenchmarkRecord",
    "Key",
    "RecordSet",
    "Row",
    "answers_beside",
    "benchmark",
    "benchmark_rows",
    "names",
    "parsed",
    "picture",
    "read_benchmark",
]
