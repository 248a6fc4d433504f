"""Plain lists of {image, question, label}, and of {image, question, answer, label}: JSON, JSONL, CSV or TSV.

The truth is `label` (or `truth`), and `answer` where there is neither. Beside a label, `answer` is what a model said. A
row with `objects`, a list of what is in the image, asks for a description; `absent` lists what may be made up.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from emma_viz.data.image_names import image_name
from emma_viz.errors import RecordError
from emma_viz.records.benchmarks.kinds import Benchmark, Complain, FoundRecord, parsed
from emma_viz.records.benchmarks.pope import asked_object
from emma_viz.records.benchmarks.record import BenchmarkRecord
from emma_viz.records.benchmarks.rows import Row
from emma_viz.records.objects import named_words

LABELS = ("label", "truth")


def _read(files: Sequence[Path], complain: Complain) -> Iterator[FoundRecord]:
    for path in files:
        yield from parsed(path, lambda row, path=path: _record(row, path.stem), complain)


def _record(row: Row, name: str) -> FoundRecord:
    if "objects" in row.fields:
        return _description(row, name), row.maybe("answer") or None
    labelled = any(row.fields.get(each) is not None for each in LABELS)
    truth = row.text(*LABELS) if labelled else row.text("answer")
    said = row.fields.get("answer") if labelled else None
    if said is not None and not isinstance(said, str):
        raise RecordError(f"expected a text as 'answer', got {said!r:.80}")
    plain = truth.strip().rstrip(".").lower()
    question = row.text("question", "text", "prompt")
    image = row.fields.get("image")
    return BenchmarkRecord(
        benchmark="plain",
        split=row.maybe("split", "category") or name,
        id=row.maybe("id", "question_id") or str(row.number),
        asked="yes-no" if plain in ("yes", "no") else "short",
        question=question,
        # An empty cell of a table is none.
        image=image_name(image, where="'image'", folder=None) if image not in (None, "") else None,
        truth=plain if plain in ("yes", "no") else truth,
        object=row.maybe("object") or asked_object(question),
        where=row.where,
    ), said


def _description(row: Row, name: str) -> BenchmarkRecord:
    return BenchmarkRecord(
        benchmark="plain",
        split=row.maybe("split", "category") or name,
        id=row.maybe("id", "question_id") or str(row.number),
        asked="description",
        question=row.text("question", "text", "prompt"),
        image=image_name(row.text("image"), where="'image'", folder=None),
        present=row.texts("objects"),
        absent=row.texts("absent") if "absent" in row.fields else (),
        where=row.where,
    )


BENCHMARK = Benchmark(
    title="your own list of images, questions and labels",
    source="a .json, .jsonl, .csv or .tsv of {image, question, label}; see docs/benchmarks.md",
    read=_read,
    scorers=("first-word", "pope", "lmms-eval", "vlmevalkit", "cobra"),
    endings=(".json", ".jsonl", ".csv", ".tsv"),
    mentions=lambda record, text: named_words(text, (*record.present, *record.absent)),
)
