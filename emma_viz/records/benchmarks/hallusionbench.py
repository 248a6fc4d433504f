"""HallusionBench: yes/no questions in pairs about figures and edited figures, some without any (Guan et al. 2024)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from emma_viz.data.image_names import image_name
from emma_viz.errors import RecordError
from emma_viz.records.benchmarks.kinds import Benchmark, Complain, FoundRecord, parsed
from emma_viz.records.benchmarks.record import MISSPELLED, MISSPELLINGS, BenchmarkRecord
from emma_viz.records.benchmarks.rows import Row

CATEGORIES = ("VD", "VS")
"""Visual dependent, and visual supplement, whose questions can be answered without the figure."""
_FIGURE, _PAIR = "figure", "question pair"
"""Kinds of groups: all questions about a figure; one question about all its figures."""


def _read(files: Sequence[Path], complain: Complain) -> Iterator[FoundRecord]:
    for path in files:
        yield from parsed(path, lambda row: (_record(row), None), complain)


def _record(row: Row) -> BenchmarkRecord:
    category = row.text("category")
    if category not in CATEGORIES:
        raise RecordError(f"expected VD or VS as 'category', got {category!r:.40}")
    kind, topic = row.text("subcategory"), row.text("set_id")
    figure, number = row.text("figure_id"), row.text("question_id")
    shown = row.text("visual_input") != "0"
    named = row.fields.get("filename")
    if shown != (named is not None):
        raise RecordError(
            f"'visual_input' says that there is {'an' if shown else 'no'} image, 'filename' is {named!r:.80}"
        )
    question = row.text("question")
    topic_name = f"{category}/{kind}/{topic}"
    groups = [(_PAIR, f"{topic_name}/{number}")]
    if shown:  # As the official figure accuracy, which leaves questions without a figure out.
        groups.append((_FIGURE, f"{topic_name}/{figure}"))
    return BenchmarkRecord(
        benchmark="hallusionbench",
        split=category,
        id=f"{kind}/{topic}/{figure}/{number}",
        asked="yes-no",
        question=question,
        image=image_name(named, where="'filename'", folder=None) if shown else None,
        truth=row.yes_no("gt_answer"),
        category=kind,
        groups=tuple(groups),
        # A set's figures are edits of one another, and its questions are asked about each.
        cluster=topic_name,
        flags=(MISSPELLED,) if any(word in question for word in MISSPELLINGS) else (),
        where=row.where,
    )


BENCHMARK = Benchmark(
    title="questions about figures, charts and illusions, and about edits of them",
    source="github.com/tianyi-lab/HallusionBench (BSD-3): HallusionBench.json and hallusion_bench.zip",
    read=_read,
    scorers=("hallusionbench-rule", "vlmevalkit", "cobra"),
    places=("{image}", "hallusion_bench/{image}"),
)
