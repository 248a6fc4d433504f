"""Runs made elsewhere: lmms-eval's sample logs of all three generations, and VLMEvalKit's tables.

lmms-eval (`--log_samples`) has written three forms: until 0.2 one JSON object with "logs"; until 0.6 one object a line,
whose answers are lists; since 0.7 one object a line, whose answers are texts. Only POPE's of the first form name the
image, so that a log is joined to the benchmark's own records by the row's number, and each row is held against its
truth, its question, and its image where it is named.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path, PurePosixPath
from typing import Any

from emma_viz.errors import InputError, RecordError
from emma_viz.files.json_door import Budget, open_regular, parse_json
from emma_viz.records.benchmarks.pope import asked_object
from emma_viz.records.benchmarks.record import BenchmarkRecord, Key, RecordSet, spelled
from emma_viz.records.benchmarks.rows import Row, benchmark_rows
from emma_viz.records.scorers.answer import Answer

_SPLITS = {"adv": "adversarial", "pop": "popular", "random": "random"}
"""End of a task of lmms-eval's POPE → the split."""
_HEAD = Budget(size=1 << 20)
_TABLES = (".xlsx", ".tsv", ".csv")
_FEW = 20
"""Of so many rows of a table one may be another than its record, as after a correction; it is left out."""
_MOST_SPLITS = 5
"""Splits whose orders are tried."""


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


def is_vlmevalkit_table(path: Path) -> bool:
    """Whether a file is VLMEvalKit's, by the end of its name, or by its first row where that is .json.

    lmms-eval's logs are objects, VLMEvalKit's tables an array of them.

    Raises:
        RecordError: it has to be read for that, and cannot be.
    """
    if path.suffix.lower() != ".json":
        return path.suffix.lower() in _TABLES
    if not _first_line(path).lstrip().startswith(b"["):
        return False
    first = next(benchmark_rows(path), None)
    try:
        fields = {} if first is None else first.fields
    except RecordError:  # It is no object: whoever reads the log names the row.
        return False
    return "prediction" in fields and "doc_id" not in fields


def _first_line(path: Path) -> bytes:
    try:
        with open_regular(path, error=RecordError) as file:
            return file.readline(_HEAD.size)
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror or error}") from error


def _log_rows(path: Path) -> Iterator[Row]:
    first = _first_line(path)
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


def read_vlmevalkit(path: Path, *, dataset: str, records: RecordSet | None = None) -> ImportedRun:
    """Read a table of VLMEvalKit: {model}_{dataset} as .xlsx, .tsv, .csv or .json, also one that scores were added to.

    A row of several categories ("adversarial,popular") stands in each of them, as it does when VLMEvalKit scores.
    The table does not name images: without `records` each row is a cluster of its own.

    Args:
        path: the table.
        dataset: what the records say that they belong to.
        records: the benchmark's own, to which rows are joined by their order, and held against question and truth. The
            rows of a category, by their index, are those of the split of that name, all of them, or all that have an
            image. Where rows stand in several categories, they are those of one split after another, without what
            asks the same; the order of the splits is the one in which they fit. Indices that are no numbers count as
            they stand.

    Raises:
        RecordError: the file cannot be read.
        MissingDependencyError: openpyxl, which reads .xlsx, is not installed.
        InputError: no row of it could be used, or more than one in 20 (and more than one) are not those of `records`.
    """
    made: list[tuple[BenchmarkRecord, Answer]] = []
    complaints = []
    for row in benchmark_rows(path):
        try:
            made += [(each, Answer(text=row.maybe("prediction").strip())) for each in _of_table(row, dataset)]
        except InputError as error:
            complaints.append(f"{row.where}: {error}")
    own = None if records is None else _own_of_rows(path, records, made)
    answers: dict[Key, Answer] = {}
    found: dict[Key, BenchmarkRecord] = {}
    repeated = 0
    for record, answer in made:
        try:
            kept = record if own is None else _held(record, own.get(record.key))
        except RecordError as error:
            complaints.append(f"{record.where}: {error}")
            continue
        repeated += kept.key in found
        found[kept.key], answers[kept.key] = kept, answer
    if not found:
        raise InputError(f"{path}: no row of it could be used. " + "; ".join(complaints[:5]))
    return ImportedRun(
        records=tuple(found.values()), answers=answers, complaints=tuple(complaints), repeated=repeated
    )


def _own_of_rows(
    path: Path, records: RecordSet, made: Iterable[tuple[BenchmarkRecord, Answer]]
) -> dict[Key, BenchmarkRecord]:
    """Of each row of a table, by its key, the benchmark's own record.

    Raises:
        InputError: the rows are not those of the records, or it is not known which they are.
    """
    by_split: dict[str, list[BenchmarkRecord]] = {}
    for each in records.records:
        by_split.setdefault(each.split, []).append(each)
    if len(by_split) == 1:  # A table of one split says no category.
        by_split[""] = next(iter(by_split.values()))
    rows = {record.key: record for record, _ in made if record.split in by_split}
    numbers = list(dict.fromkeys(number for _, number in rows))
    # Indices that are names, as HallusionBench's, say no order: VLMEvalKit writes rows in that of its data set.
    if all(map(str.isdecimal, numbers)):
        numbers.sort(key=lambda each: (len(each), each))
    if len(rows) > len(numbers):
        places = _without_repetition(by_split, rows, numbers)
    else:
        places = [_in_each_split(by_split, rows, numbers)]
    wrong = [sum(not _fits(row, own.get(key)) for key, row in rows.items()) for own in places]
    best = wrong.index(min(wrong))
    if wrong[best] > max(1, len(rows) // _FEW):
        raise InputError(
            f"{path}: expected the rows that the records given ask, all of them and in their order, got "
            f"{wrong[best]} of {len(rows)} that are others; give the records that the table was made with, or none "
            "(then its rows have no images)."
        )
    if any(count == wrong[best] and own != places[best] for count, own in zip(wrong, places, strict=True)):
        raise InputError(
            f"{path}: expected rows that fit the records given in one order of the splits, got some that fit in "
            "several, so that nothing tells their images; give no records (then its rows have no images)."
        )
    return places[best]


def _in_each_split(
    by_split: Mapping[str, list[BenchmarkRecord]], rows: Mapping[Key, BenchmarkRecord], numbers: Sequence[str]
) -> dict[Key, BenchmarkRecord]:
    """The record at each row's place in its split, where the table has all rows of the split."""
    found: dict[Key, BenchmarkRecord] = {}
    for split, own in by_split.items():
        keys = [(split, number) for number in numbers if (split, number) in rows]
        # VLMEvalKit leaves out what is asked about no image.
        shown = [each for each in own if each.image is not None]
        own = shown if len(shown) == len(keys) else own
        if len(own) == len(keys):  # Else a row that lacks would give those behind it another's record.
            found |= zip(keys, own, strict=True)
    return found


def _without_repetition(
    by_split: Mapping[str, list[BenchmarkRecord]], rows: Mapping[Key, BenchmarkRecord], numbers: Sequence[str]
) -> list[dict[Key, BenchmarkRecord]]:
    """The records of a table in which what several splits ask stands once, for each order of the splits.

    The table has the rows of one split after another, but those that stand in it already.
    """
    used = list(dict.fromkeys(split for split, _ in rows))
    splits_of: dict[str, set[str]] = {}
    for split, number in rows:
        splits_of.setdefault(number, set()).add(split)
    found = []
    for order in permutations(used) if len(used) <= _MOST_SPLITS else ():
        asked: dict[tuple[str, ...], dict[str, BenchmarkRecord]] = {}
        for split in order:
            for record in by_split[split]:
                asked.setdefault(record.same, {}).setdefault(split, record)
        same = zip(numbers, asked.values(), strict=False) if len(asked) == len(numbers) else ()
        found.append(
            {
                (split, number): record
                for number, of_split in same
                if of_split.keys() == splits_of[number]
                for split, record in of_split.items()
            }
        )
    return found or [{}]


def _fits(row: BenchmarkRecord, own: BenchmarkRecord | None) -> bool:
    """Whether the benchmark's own record asks what a row of a table does."""
    return own is not None and own.truth == row.truth and spelled(own.question) in spelled(row.question)


def _held(row: BenchmarkRecord, own: BenchmarkRecord | None) -> BenchmarkRecord:
    """The benchmark's own record, held against the row.

    Raises:
        RecordError: there is none, or it asks something else.
    """
    if own is None:
        raise RecordError(f"the records given have no row of the split {row.split!r:.40} at its place")
    if not _fits(row, own):
        raise RecordError(
            f"index {row.id} asks {row.question!r:.80} (truth {row.truth!r:.20}), and the record at its place asks "
            f"{own.question!r:.80} (truth {own.truth!r:.20}); give the records that the table was made with"
        )
    return own


def _of_table(row: Row, dataset: str) -> Iterator[BenchmarkRecord]:
    number, question, truth = row.text("index"), row.text("question"), row.text("answer")
    if "prediction" not in row.fields:
        raise RecordError("expected what the model said as 'prediction'")
    plain = truth.strip().lower()
    for category in (row.maybe("category") or "").split(","):
        yield BenchmarkRecord(
            benchmark=dataset,
            split=category.strip(),
            id=number,
            asked="yes-no" if plain in ("yes", "no") else "short",
            question=question,
            image=None,
            truth=plain if plain in ("yes", "no") else truth,
            object=asked_object(question),
            cluster=number,
            where=row.where,
        )
