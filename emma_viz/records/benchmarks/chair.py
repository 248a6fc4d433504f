"""CHAIR: which objects of a description are not in the image? (Rohrbach et al. 2018.)

The truth of an image is the union of its segmented objects and those that its human captions name. Read are COCO's own
files, instances_*.json and captions_*.json; a list of {image_id, objects}; and a list of {image_id}, which says which
images are asked about, and of {image_id, caption}, in which a model's descriptions stand, too.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from emma_viz.data.image_names import image_name
from emma_viz.errors import InputError, RecordError
from emma_viz.files.json_door import open_regular
from emma_viz.records.benchmarks.kinds import Benchmark, Complain, FoundRecord, Read
from emma_viz.records.benchmarks.record import BenchmarkRecord
from emma_viz.records.benchmarks.rows import Row, benchmark_rows
from emma_viz.records.coco_words import COCO
from emma_viz.records.json_spans import spans_in

_PROMPT = "Please describe this image in detail."
"""Asked about each image, as in OPERA's runs; the files hold no question."""
_NUMBER = re.compile(r"(\d+)\D*$")


@dataclass
class _Gathered:
    """What is known of each image, by its number."""

    objects: defaultdict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    files: dict[int, str] = field(default_factory=dict)
    asked: dict[int, str] = field(default_factory=dict)
    """Images that are asked about → where."""
    said: dict[int, str] = field(default_factory=dict)


def _read(files: Sequence[Path], complain: Complain) -> Iterator[FoundRecord]:
    return _beside(files, complain)((), complain)


def _beside(files: Sequence[Path], complain: Complain) -> Read:
    """Read the annotations, some 200 MB of JSON, once for all files of descriptions."""
    known = _Gathered()
    _gather(files, known, complain)

    def read(answers: Sequence[Path], complain: Complain) -> Iterator[FoundRecord]:
        found = deepcopy(known)
        _gather(answers, found, complain)
        return _records(found, [*files, *answers], complain)

    return read


def _gather(files: Sequence[Path], known: _Gathered, complain: Complain) -> None:
    for path in files:
        if _is_coco(path):
            _coco(path, known, complain)
        else:
            _each(benchmark_rows(path), lambda row: _listed(row, known), complain)


def _records(known: _Gathered, files: Sequence[Path], complain: Complain) -> Iterator[FoundRecord]:
    if not known.objects:
        raise InputError(
            f"{', '.join(map(str, files))}: expected what is in the images, COCO's instances_val2014.json (and "
            "captions_val2014.json) or a list of {image_id, objects}; found neither."
        )
    for number in known.asked or dict.fromkeys(sorted(known.objects), ""):
        where = known.asked.get(number, "")
        if number not in known.objects:
            complain(RecordError(f"{where}: no file says what is in the image {number}"))
            continue
        record = BenchmarkRecord(
            benchmark="chair",
            split="",
            id=str(number),
            asked="description",
            question=_PROMPT,
            image=known.files.get(number, f"COCO_val2014_{number:012d}.jpg"),
            present=tuple(sorted(known.objects[number])),
            where=where,
        )
        yield record, known.said.get(number)


def _is_coco(path: Path) -> bool:
    """Whether it is one object with arrays inside, and no list of records."""
    with open_regular(path, error=RecordError) as file:
        head = file.read(1 << 16).lstrip(b"\xef\xbb\xbf \t\r\n")
    names = (b'"info"', b'"images"', b'"annotations"', b'"licenses"', b'"categories"')
    return head.startswith(b"{") and head[1:].lstrip().startswith(names)


def _coco(path: Path, known: _Gathered, complain: Complain) -> None:
    try:
        kinds = {
            int(row["id"]): str(row["name"]) for row in (span.value for span in spans_in(path, "categories"))
        }
    except RecordError:
        kinds = {}  # a file of captions, which may name no images either
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{path}: expected categories of {{id, name}} ({error!r})") from error

    def images(row: Row) -> None:
        known.files[_whole(row, "id")] = image_name(row.text("file_name"), where="'file_name'", folder=None)

    def annotation(row: Row) -> None:
        number = _whole(row, "image_id")
        if "caption" in row.fields:
            known.objects[number] |= set(COCO.mentions(row.text("caption", empty=True)))
        elif (name := kinds.get(_whole(row, "category_id"))) is not None:
            known.objects[number].add(name)
        else:
            raise RecordError(
                f"'category_id' {row.fields['category_id']!r:.40} is none of the file's categories"
            )

    for key, take in (
        (("images", images), ("annotations", annotation)) if kinds else (("annotations", annotation),)
    ):
        _each(benchmark_rows(path, within=key), take, complain)


def _listed(row: Row, known: _Gathered) -> None:
    number = (
        _whole(row, "image_id") if "image_id" in row.fields else _number_of(row.text("image", "file_name"))
    )
    if "objects" in row.fields:
        known.objects[number] |= set(row.texts("objects"))
        if (name := row.maybe("image", "file_name")) != "":
            known.files[number] = image_name(name, where="'image'", folder=None)
        return
    described = row.fields.get("caption") is not None
    if number in known.asked and (number in known.said or not described):
        raise RecordError(f"the image {number} stands in {known.asked[number]} already")
    known.asked.setdefault(number, row.where)
    if described:
        known.said[number] = row.text("caption", empty=True)


def _each(rows: Iterator[Row], take: Callable[[Row], None], complain: Complain) -> None:
    for row in rows:
        try:
            take(row)
        except InputError as error:
            complain(RecordError(f"{row.where}: {error}"))


def _whole(row: Row, name: str) -> int:
    value = row.fields.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise RecordError(f"expected a whole number as {name!r}, got {value!r:.60}")
    return value


def _number_of(name: str) -> int:
    found = _NUMBER.search(name.rsplit(".", 1)[0][-40:])
    if found is None:
        raise RecordError(f"expected an image with a number in its name, got {name!r:.80}")
    return int(found[1])


BENCHMARK = Benchmark(
    title="objects of descriptions that are not in the image",
    source="COCO val2014: instances_val2014.json, captions_val2014.json (CC BY 4.0), images; and the ids of 500 images",
    read=_read,
    scorers=("first-word",),
    places=("{image}", "val2014/{image}"),
    beside=_beside,
    mentions=lambda record, text: COCO.mentions(text),
)
