"""POPE: is this object in the image? (Li et al. 2023.) COCO, A-OKVQA and GQA, old and new versions, and POPEv2.

Read are one object a line and JSON arrays, {question_id, image, text, label}; and POPEv2's {image_name, query, label},
whose images come in pairs, edited and original.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from emma_viz.data.image_names import image_name
from emma_viz.records.benchmarks.kinds import Benchmark, Complain, FoundRecord, parsed
from emma_viz.records.benchmarks.record import DISPUTED, MISSPELLED, MISSPELLINGS, BenchmarkRecord
from emma_viz.records.benchmarks.rows import Row

_SPLITS = ("random", "popular", "adversarial")
SOURCES = ("aokvqa", "gqa")
"""Data sets beside COCO whose objects SEEM has found."""
REPORTED = {
    ("COCO_val2014_000000244455.jpg", "bicycle"),
    ("COCO_val2014_000000346707.jpg", "bowl"),
    ("COCO_val2014_000000485485.jpg", "car"),
    ("COCO_val2014_000000325347.jpg", "sports ball"),
}
"""(image, object) of labels "yes" that readers of the files found no object for: AoiDragon/POPE, issues 8 and 9."""
_OBJECT = re.compile(r"is there an? +(?P<object>.+?) in (?:the|this) imn?age\??", re.IGNORECASE)


def asked_object(question: str) -> str:
    """The object that a question of POPE's form asks about; "" for another question.

    Examples:
        >>> asked_object("Is there an umbrella in the imange?")
        'umbrella'
    """
    found = _OBJECT.fullmatch(question.strip())
    return found["object"] if found else ""


def split_of(name: str) -> str:
    """The split that a file holds, by its name: "random", "popular" or "adversarial"; but for COCO the data set, too.

    Examples:
        >>> split_of("coco_pope_random"), split_of("aokvqa_pope_seem_random"), split_of("mine")
        ('random', 'aokvqa random', 'mine')
    """
    split = next((each for each in _SPLITS if each in name.lower()), "")
    source = next((each for each in SOURCES if each in name.lower()), "")
    return f"{source} {split}".strip() or name


def _read(files: Sequence[Path], complain: Complain) -> Iterator[FoundRecord]:
    for path in files:
        split = split_of(path.stem)
        yield from parsed(path, lambda row, split=split: (_record(row, split), None), complain)


def _record(row: Row, split: str) -> BenchmarkRecord:
    if "query" in row.fields:
        return _second(row)
    question = row.text("text", "question")
    image = image_name(row.text("image"), where="'image'", folder=None)
    name = asked_object(question)
    flags = [MISSPELLED] if any(word in question for word in MISSPELLINGS) else []
    truth = row.yes_no("label")
    if truth == "yes" and (image.split("/")[-1], name) in REPORTED:
        flags.append(DISPUTED)
    return BenchmarkRecord(
        benchmark="pope",
        split=split,
        id=row.text("question_id"),
        asked="yes-no",
        question=question,
        image=image,
        truth=truth,
        object=name,
        flags=tuple(flags),
        where=row.where,
    )


def _second(row: Row) -> BenchmarkRecord:
    """A row of POPEv2; an edited image and its original are a pair."""
    name = row.text("image_name")
    image = image_name(name.lstrip("/"), where="'image_name'", folder=None)
    edited = "edited" if name.lstrip("/").startswith("images/") else "original"
    number, target = row.text("image_id"), row.text("target_object")
    return BenchmarkRecord(
        benchmark="pope",
        split="v2",
        id=f"{number}-{target}-{edited}",
        asked="yes-no",
        question=row.text("query"),
        image=image,
        truth=row.yes_no("label"),
        object=target,
        category=edited,
        groups=(("pair", f"{number}-{target}"),),
        cluster=number,
        where=row.where,
    )


BENCHMARK = Benchmark(
    title="is an object in the image: random, popular and adversarial absent ones",
    source="github.com/AoiDragon/POPE (MIT), output/coco and output/seem, with COCO val2014; POPEv2/dataset",
    read=_read,
    scorers=("pope", "opera", "lmms-eval", "vlmevalkit", "cobra"),
    places=("{image}", "val2014/{image}", "train2017/{image}"),
)
