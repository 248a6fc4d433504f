"""MME: two yes/no questions about each image, in fourteen tasks (Fu et al. 2023).

A task is a .txt file with a line a question: image, question, truth, and in results the answer; tabs part them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from emma_viz.data.image_names import image_name
from emma_viz.errors import RecordError
from emma_viz.records.benchmarks.kinds import Benchmark, Complain, FoundRecord, parsed
from emma_viz.records.benchmarks.pope import asked_object
from emma_viz.records.benchmarks.record import BenchmarkRecord
from emma_viz.records.benchmarks.rows import Row

PERCEPTION = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
_COLUMNS = ("image", "question", "truth", "answer")
_COCO = ("existence", "count", "position", "color")
"""Tasks about images of COCO, whose names are theirs in every task; the others number their own."""
_IMAGE = "image"
"""Kind of group: an image's two questions."""


def _read(files: Sequence[Path], complain: Complain) -> Iterator[FoundRecord]:
    for path in files:
        task = path.stem
        asked: dict[str, int] = {}
        yield from parsed(
            path, lambda row, task=task, asked=asked: _record(row, task, asked), complain, columns=_COLUMNS
        )
        for image, count in asked.items():
            if count != 2:
                complain(
                    RecordError(
                        f"{path}: expected two questions about {image!r:.80}, got {count}; they are kept"
                    )
                )


def _record(row: Row, task: str, asked: dict[str, int]) -> FoundRecord:
    image = image_name(row.text("image"), where="the first column", folder=None)
    question, truth = row.text("question"), row.yes_no("truth")
    asked[image] = asked.get(image, 0) + 1
    record = BenchmarkRecord(
        benchmark="mme",
        split=task,
        id=f"{image}-{asked[image]}",
        asked="yes-no",
        question=question,
        image=image,
        truth=truth,
        object=asked_object(question.split("?")[0]),
        cluster=image if task in _COCO else f"{task}/{image}",
        category="cognition" if task in COGNITION else "perception",
        groups=((_IMAGE, f"{task}/{image}"),),
        where=row.where,
    )
    answer = row.fields.get("answer")
    return record, None if answer is None else str(answer)


BENCHMARK = Benchmark(
    title="two yes/no questions an image, ten tasks of perception and four of cognition",
    source="github.com/BradyFU/Awesome-Multimodal-Large-Language-Models, branch Evaluation (images on request)",
    read=_read,
    scorers=("mme", "lmms-mme", "vlmevalkit", "cobra"),
    endings=(".txt",),
    places=("{image}", "{split}/{image}", "{split}/images/{image}"),
)
