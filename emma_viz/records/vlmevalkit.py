"""VLMEvalKit's tables: rows joined to a benchmark's own records by the images that they name, or by their order."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import permutations
from pathlib import Path, PurePosixPath

from emma_viz.errors import InputError, RecordError
from emma_viz.records.benchmarks.pope import asked_object
from emma_viz.records.benchmarks.record import BenchmarkRecord, Key, RecordSet, spelled
from emma_viz.records.benchmarks.rows import Row, benchmark_rows
from emma_viz.records.imports import ImportedRun, first_line
from emma_viz.records.scorers.answer import Answer

_TABLES = (".xlsx", ".tsv", ".csv")
_IMAGE_COLUMNS = ("image_path", "image")
"""Where a table may name a row's image; the first that is not empty counts."""
_IMAGE_NAME = re.compile(r"[^\n]{1,500}\.(jpe?g|png|webp)", re.IGNORECASE)
"""A path of an image: VLMEvalKit's own data have an image in base64 there, or the number of a row with the same."""
_FEW = 20
"""Of so many rows of a table one may be another than its record, as after a correction; it is left out."""
_MOST_SPLITS = 5
"""Splits whose orders are tried."""


def is_vlmevalkit_table(path: Path) -> bool:
    """Whether a file is VLMEvalKit's, by the end of its name, or by its first row where that is .json.

    lmms-eval's logs are objects, VLMEvalKit's tables an array of them.

    Raises:
        RecordError: it has to be read for that, and cannot be.
    """
    if path.suffix.lower() != ".json":
        return path.suffix.lower() in _TABLES
    if not first_line(path).lstrip().startswith(b"["):
        return False
    first = next(benchmark_rows(path), None)
    try:
        fields = {} if first is None else first.fields
    except RecordError:  # It is no object: whoever reads the log names the row.
        return False
    return "prediction" in fields and "doc_id" not in fields


def read_vlmevalkit(path: Path, *, dataset: str, records: RecordSet | None = None) -> ImportedRun:
    """Read a table of VLMEvalKit: {model}_{dataset} as .xlsx, .tsv, .csv or .json, also one that scores were added to.

    A row of several categories ("adversarial,popular") stands in each of them, as it does when VLMEvalKit scores.
    VLMEvalKit leaves images out of its tables: without `records` each row is then a cluster of its own.

    Args:
        path: the table.
        dataset: what the records say that they belong to.
        records: the benchmark's own, to which rows are joined, and held against question and truth. Where each row
            names its image (`image_path`, or `image` that holds a name), by image and question; else by their order.
            The rows of a category, by their index, are then those of the split of that name, all of them, or all that
            have an image. Where rows stand in several categories, they are those of one split after another, without
            what asks the same; the order of the splits is the one in which they fit. Indices that are no numbers count
            as they stand.

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
    most = max(1, len(rows) // _FEW)
    named = _by_image(by_split, rows)
    if named and len(rows) - len(named) <= most:
        return named
    # By order, rows would get other images than those that they name.
    if any(row.image for row in rows.values()):
        raise InputError(_other_rows(path, len(rows) - len(named), rows, named))
    if len(rows) > len(numbers):
        places = _without_repetition(by_split, rows, numbers)
    else:
        places = [_in_each_split(by_split, rows, numbers)]
    wrong = [sum(not _fits(row, own.get(key)) for key, row in rows.items()) for own in places]
    best = wrong.index(min(wrong))
    if wrong[best] > most:
        raise InputError(_other_rows(path, wrong[best], rows, named))
    if any(count == wrong[best] and own != places[best] for count, own in zip(wrong, places, strict=True)):
        raise InputError(
            f"{path}: expected rows that fit the records given in one order of the splits, got some that fit in "
            "several, so that nothing tells their images; give no records (then its rows have no images)."
        )
    return places[best]


def _other_rows(
    path: Path, wrong: int, rows: Mapping[Key, BenchmarkRecord], named: Mapping[Key, BenchmarkRecord]
) -> str:
    """What to do about a table whose rows are not those of the records."""
    how = (
        f"It names images, and {len(named)} of its rows are found by their image and question."
        if any(row.image for row in rows.values())
        else "It does not name its images, so that its rows go by their order."
    )
    return (
        f"{path}: expected the rows that the records given ask, all of them and in their order, got "
        f"{wrong} of {len(rows)} that are others. {how} To mend it, give the records that the table was made "
        f"with in its order; or let the column {_IMAGE_COLUMNS[0]} of the table name each row's image as the records "
        "name it, whatever the order; or give no records (then its rows have the images that they name, or none)."
    )


def _by_image(
    by_split: Mapping[str, list[BenchmarkRecord]], rows: Mapping[Key, BenchmarkRecord]
) -> dict[Key, BenchmarkRecord]:
    """The records that ask what rows do about the image that these name, each for one row; without those of rows that
    name no image, or of which there is no such record."""
    own: dict[tuple[str, str], list[BenchmarkRecord]] = {}
    for split, records in by_split.items():
        for record in records:
            own.setdefault((split, PurePosixPath(record.image or "").name), []).append(record)
    found: dict[Key, BenchmarkRecord] = {}
    for key, row in rows.items():
        about = own.get((row.split, row.image), []) if row.image else []
        number = next((number for number, each in enumerate(about) if _fits(row, each)), None)
        if number is not None:
            found[key] = about.pop(number)
    return found


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
        where = f"of the image {row.image!r:.80} that asks this" if row.image else "at its place"
        raise RecordError(f"the records given have no row of the split {row.split!r:.40} {where}")
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
    plain, image = truth.strip().lower(), _named_image(row)
    for category in (row.maybe("category") or "").split(","):
        yield BenchmarkRecord(
            benchmark=dataset,
            split=category.strip(),
            id=number,
            asked="yes-no" if plain in ("yes", "no") else "short",
            question=question,
            image=image or None,
            truth=plain if plain in ("yes", "no") else truth,
            object=asked_object(question),
            cluster=image or number,
            where=row.where,
        )


def _named_image(row: Row) -> str:
    """The name of the file of a row's image, without its folder; "" where the row names none, as in base64."""
    given = next((text for name in _IMAGE_COLUMNS if (text := row.maybe(name).strip())), "")
    return PurePosixPath(given).name if _IMAGE_NAME.fullmatch(given) else ""
