"""AMBER: descriptions of 1004 images, and 14216 yes/no questions about them (Wang et al. 2023).

Two files belong together, by id: questions ({id, image, query}: query_all.json, or those of one part) and what is true
({id, type, truth, hallu}: annotations.json).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from emma_viz.data.image_names import image_name
from emma_viz.errors import InputError, RecordError
from emma_viz.records.benchmarks.kinds import Benchmark, Complain, FoundRecord
from emma_viz.records.benchmarks.pope import asked_object
from emma_viz.records.benchmarks.record import BenchmarkRecord
from emma_viz.records.benchmarks.rows import Row, benchmark_rows
from emma_viz.records.objects import named_words

_TYPES = {
    "discriminative-hallucination": "existence",
    "discriminative-attribute-state": "attribute-state",
    "discriminative-attribute-number": "attribute-number",
    "discriminative-attribute-action": "attribute-action",
    # Two names of one part: the first holds all its "yes", the second all its "no".
    "discriminative-relation": "relation",
    "relation": "relation",
}
"""What annotations call a part, and what the official score calls it."""
GENERATIVE = "generative"


def _read(files: Sequence[Path], complain: Complain) -> Iterator[FoundRecord]:
    truths: dict[str, Row] = {}
    asked: dict[str, Row] = {}
    for path in files:
        for row in benchmark_rows(path):
            try:
                place = truths if "type" in row.fields else asked
                number = row.text("id")
                if number in place:
                    raise RecordError(f"the id {number} stands in the file already")
                place[number] = row
            except InputError as error:
                complain(RecordError(f"{row.where}: {error}"))
    if not asked or not truths:
        lacks = "questions (query_all.json)" if not asked else "annotations (annotations.json)"
        raise InputError(f"AMBER is two files, and the {lacks} are not among {', '.join(map(str, files))}.")
    for number, row in asked.items():
        try:
            if number not in truths:
                raise RecordError(f"the annotations have no id {number}")
            yield _record(number, row, truths[number]), None
        except InputError as error:
            complain(RecordError(f"{row.where}: {error}"))


def _record(number: str, row: Row, truth: Row) -> BenchmarkRecord:
    image = image_name(row.text("image"), where="'image'", folder=None)
    question, kind = row.text("query"), truth.text("type")
    if kind == GENERATIVE:
        return BenchmarkRecord(
            benchmark="amber",
            split=GENERATIVE,
            id=number,
            asked="description",
            question=question,
            image=image,
            present=truth.texts("truth"),
            absent=truth.texts("hallu"),
            where=row.where,
        )
    if kind not in _TYPES:
        raise RecordError(f"expected one of {', '.join(_TYPES)} as the annotation's 'type', got {kind!r:.60}")
    return BenchmarkRecord(
        benchmark="amber",
        split=_TYPES[kind],
        id=number,
        asked="yes-no",
        question=question,
        image=image,
        truth=truth.yes_no("truth"),
        object=asked_object(question),
        category=kind,
        where=row.where,
    )


def _mentions(record: BenchmarkRecord, text: str) -> tuple[str, ...]:
    """Of the record's objects those that a text names. The official score takes nouns of the whole world by likeness of
    word vectors, which needs a model that is downloaded; this one is named `amber-words`."""
    return named_words(text, (*record.present, *record.absent))


BENCHMARK = Benchmark(
    title="objects, attributes and relations: descriptions and yes/no questions",
    source="github.com/junyangwang0410/AMBER (Apache-2.0): data/query/query_all.json, data/annotations.json, images",
    read=_read,
    scorers=("amber", "lmms-amber", "vlmevalkit", "cobra"),
    places=("{image}", "image/{image}"),
    mentions=_mentions,
)
