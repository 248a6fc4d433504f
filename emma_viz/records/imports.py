"""Runs made elsewhere, and lmms-eval's sample logs of all three generations.

lmms-eval (`--log_samples`) has written three forms: until 0.2 one JSON object with "logs"; until 0.6 one object a line,
whose answers are lists; since 0.7 one object a line, whose answers are texts. Only POPE's of the first form name the
image, so that a log is joined to the benchmark's own records by the row's number, and each row is held against its
truth, its question, and its image where it is named.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from emma_viz.errors import InputError, RecordError
from emma_viz.files.json_door import Budget, open_regular, parse_json
from emma_viz.records.benchmarks.pope import asked_object
from emma_viz.records.benchmarks.record import BenchmarkRecord, Key, RecordSet
from emma_viz.records.benchmarks.rows import Row, benchmark_rows
from emma_viz.records.scorers.answer import Answer

_SPLITS = {"adv": "adversarial", "pop": "popular", "random": "random"}
"""End of a task of lmms-eval's POPE → the split."""
_HEAD = Budget(size=1 << 20)


@dataclass(frozen=True, kw_only=True)
class ImportedRun:
    """Answers that were given elsewhere, beside the records they belong to."""

    records: tuple[BenchmarkRecord, ...]
    """Those that were answered. Without the benchmark's own files they have no image."""
    answers: Mapping[Key, Answer]
    """Of each record."""
    complaints: tuple[str, ...]
    """Each row that was left out, with its line and the reason."""
    repeated: int
    """Rows that stand in the log again later: the last counts."""


def read_lmms_log(path: Path, *, task: str, records: RecordSet | None = None) -> ImportedRun:
    """Read a sample log of lmms-eval.

    Args:
        path: the .json or .jsonl file.
        task: lmms-eval's name of the task, such as "pope_adv".
        records: the benchmark's own, to which rows are joined in their order: for a task of one split those of it.

    Raises:
        RecordError: the file cannot be read, or is no such log.
        InputError: no row of it could be used.
    """
    split = _SPLITS.get(task.rpartition("_")[2], "") if task.startswith("pope_") else ""
    own = [] if records is None else [each for each in records.records if not split or each.split == split]
    found: dict[int, tuple[BenchmarkRecord, Answer]] = {}
    complaints: list[str] = []
    repeated = 0
    for row in _log_rows(path):
        try:
            number, pair = _sample(row, task, split, own if records is not None else None)
        except InputError as error:
            complaints.append(f"{row.where}: {error}")
            continue
        repeated += number in found
        found[number] = pair
    if not found:
        raise InputError(f"{path}: no row of it could be used. " + "; ".join(complaints[:5]))
    pairs = [found[number] for number in sorted(found)]
    return ImportedRun(
        records=tuple(record for record, _ in pairs),
        answers={record.key: answer for record, answer in pairs},
        complaints=tuple(complaints),
        repeated=repeated,
    )


def first_line(path: Path) -> bytes:
    """The bytes of a log's first line, of a long one its beginning.

    Raises:
        RecordError: it cannot be read.
    """
    try:
        with open_regular(path, error=RecordError) as file:
            return file.readline(_HEAD.size)
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror or error}") from error


def _log_rows(path: Path) -> Iterator[Row]:
    first = first_line(path)
    if first.lstrip().startswith(b"{") and not _is_sample(first):
        yield from benchmark_rows(path, within="logs")
    else:
        yield from benchmark_rows(path)


def _is_sample(line: bytes) -> bool:
    """Whether a line is a whole sample, as since 0.3."""
    try:
        value = parse_json(line, where="the first line", error=RecordError, budget=_HEAD)
    except RecordError:
        return False
    return isinstance(value, dict) and "doc_id" in value


def _sample(
    row: Row, task: str, split: str, own: list[BenchmarkRecord] | None
) -> tuple[int, tuple[BenchmarkRecord, Answer]]:
    """The number of one row, its record and its answer."""
    fields = row.fields
    number = fields.get("doc_id")
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise RecordError(f"expected a whole number as 'doc_id', got {number!r:.40}")
    answer = Answer(text=_first(fields.get("filtered_resps"), "filtered_resps"))
    target, asked = row.text("target"), _asked(fields)
    if own is None:
        return number, (_made(row, number, task, split, target, asked), answer)
    if number >= len(own):
        raise RecordError(f"'doc_id' is {number}, and the records given have {len(own)} rows of this task")
    record = own[number]
    if target.strip().lower() != record.truth or (asked and record.question not in asked):
        raise RecordError(
            f"'doc_id' {number} asks {asked!r:.80} (truth {target!r:.20}), and the record there asks "
            f"{record.question!r:.80} (truth {record.truth!r:.20}); give the records that the log was made with"
        )
    source, image = _image_source(fields), PurePosixPath(record.image or "")
    if task.startswith("pope") and source and record.image and source not in (image.stem, image.name):
        raise RecordError(
            f"'doc_id' {number} is about the image {source!r:.80}, and the record there about {record.image!r:.80}; "
            "give the records that the log was made with"
        )
    return number, (record, answer)


def _first(value: Any, name: str) -> str:
    while isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, str):
        raise RecordError(f"expected a text, or a list with one, as {name!r}, got {value!r:.60}")
    return value.strip()


def _asked(fields: dict[str, Any]) -> str:
    """What was asked, with what the task adds to it; "" where the log does not say."""
    given = fields.get("input")
    if given is None and isinstance(arguments := fields.get("arguments"), list) and arguments:
        given = arguments[0]
    if given is None and isinstance(doc := fields.get("doc"), dict):
        given = doc.get("question")
    return given if isinstance(given, str) else ""


def _image_source(fields: dict[str, Any]) -> str:
    """What the image is called, as POPE's logs said until 0.2, without ".jpg"; "" where they do not say it."""
    doc = fields.get("doc")
    source = doc.get("image_source") if isinstance(doc, dict) else None
    return source if isinstance(source, str) else ""


def _made(row: Row, number: int, task: str, split: str, target: str, asked: str) -> BenchmarkRecord:
    """A record from the log alone; the image's name stood in it until 0.2."""
    doc = row.fields.get("doc")
    category = doc.get("category") if isinstance(doc, dict) else None
    plain = target.strip().rstrip(".").lower()
    question = asked.strip().split("\n")[0]
    if not question:
        raise RecordError("the log does not say what was asked; give the benchmark's own files beside it")
    return BenchmarkRecord(
        benchmark=task,
        split=split or (category if isinstance(category, str) else ""),
        id=str(number),
        asked="yes-no" if plain in ("yes", "no") else "short",
        question=question,
        image=None,
        truth=plain if plain in ("yes", "no") else target,
        object=asked_object(question),
        cluster=_image_source(row.fields),
        where=row.where,
    )
