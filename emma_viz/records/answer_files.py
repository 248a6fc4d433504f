"""Answers in a file of their own, as POPE's own evaluation, LLaVA's, OPERA's and VCD's keep them: no truth, no image.

POPE's have {question, answer} and stand in the order of the questions. LLaVA's have {question_id, prompt, text}; the
ids are those of the questions that were asked, which LLaVA keeps in one file of all splits, without labels:
{question_id, image, text, category}. Each row is joined to the benchmark's own record and held against its question;
where the file of questions names images, to the record of that image, whichever version of the benchmark was asked.
"""

from dataclasses import dataclass
from pathlib import Path

from emma_viz.data.image_names import image_name
from emma_viz.errors import InputError, RecordError
from emma_viz.records.benchmarks.pope import split_of
from emma_viz.records.benchmarks.record import BenchmarkRecord, Key, RecordSet, spelled
from emma_viz.records.benchmarks.rows import Row, benchmark_rows
from emma_viz.records.imports import ImportedRun
from emma_viz.records.scorers.answer import Answer


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A row of a file of questions: which record it asks."""

    split: str
    place: int
    """Among the rows of the split."""
    text: str
    image: str | None
    """None where the row names none: the record is then that of its place."""


def read_answer_file(
    path: Path, *, records: RecordSet, split: str = "", questions: Path | None = None
) -> ImportedRun:
    """Read answers that stand alone.

    Args:
        path: {question, answer} in the order of a split, or {question_id, prompt, text}; an array, or one a line.
        records: the benchmark's own.
        split: whose answers these are; "" takes it from the file's name, or is the only one that there is.
        questions: the file of {question_id, image, text, category} that was asked, where ids are not those of a split:
            each row is the record with its image and question in the split of its category; a row without an image is
            the one at its place there.

    Raises:
        RecordError: a file cannot be read.
        InputError: nothing tells the split, or no row could be used.
    """
    if path.suffix.lower() not in (".json", ".jsonl"):
        raise InputError(
            f"{path}: expected answers as JSON, an array or one a line (.json, .jsonl), got a table."
        )
    own: dict[str, list[BenchmarkRecord]] = {}
    of_image: dict[tuple[str, str | None], list[BenchmarkRecord]] = {}
    for each in records.records:
        own.setdefault(each.split, []).append(each)
        of_image.setdefault((each.split, each.image), []).append(each)
    complaints: list[str] = []
    asked = None if questions is None else _questions(questions, complaints)
    chosen = "" if asked is not None else _split(path, split, tuple(own))
    by_id = {record.id: record for record in own.get(chosen, ())}
    found: dict[Key, tuple[BenchmarkRecord, Answer]] = {}
    repeated = 0
    for row in benchmark_rows(path):
        try:
            record = _record(row, own, chosen, by_id, asked, of_image)
            answer = Answer(text=_said(row).strip())
        except InputError as error:
            complaints.append(f"{row.where}: {error}")
            continue
        repeated += record.key in found
        found[record.key] = record, answer
    if not found:
        raise InputError(f"{path}: no row of it could be used. " + "; ".join(complaints[:5]))
    pairs = [found[each.key] for each in records.records if each.key in found]
    return ImportedRun(
        records=tuple(record for record, _ in pairs),
        answers={record.key: answer for record, answer in pairs},
        complaints=tuple(complaints),
        repeated=repeated,
    )


def _split(path: Path, split: str, known: tuple[str, ...]) -> str:
    if not split:
        split = split_of(path.stem)
        if split not in known and len(known) == 1:
            return known[0]
    if split not in known:
        raise InputError(
            f"{path}: expected the answers to one split of the records ({', '.join(known)}), by the file's name or "
            f"--task, got {split!r:.60}; answers to several splits at once take the file of questions (--questions)."
        )
    return split


def _questions(path: Path, complaints: list[str]) -> dict[str, _Asked]:
    """Of each id in a file of questions, where its record stands.

    Raises:
        RecordError: the file cannot be read.
    """
    found: dict[str, _Asked] = {}
    counts: dict[str, int] = {}
    for row in benchmark_rows(path):
        try:
            name, split = row.text("question_id"), split_of(row.text("category"))
            if name in found:
                raise RecordError(f"the id {name!r:.60} stands there already")
            image = row.fields.get("image")
            found[name] = _Asked(
                split=split,
                place=counts.get(split, 0),
                text=row.text("text", "question"),
                image=None if image is None else image_name(image, where="'image'", folder=None),
            )
        except InputError as error:
            complaints.append(f"{row.where}: {error}")
            continue
        counts[split] = counts.get(split, 0) + 1
    return found


def _record(
    row: Row,
    own: dict[str, list[BenchmarkRecord]],
    split: str,
    by_id: dict[str, BenchmarkRecord],
    asked: dict[str, _Asked] | None,
    of_image: dict[tuple[str, str | None], list[BenchmarkRecord]],
) -> BenchmarkRecord:
    """The record that a row answers.

    Raises:
        RecordError: there is none, or it asks something else.
    """
    said = row.maybe("prompt", "question")
    if row.fields.get("question_id") is None:
        record = _at(own, split, row.number - 1)
        said = row.text("question", "prompt")
    elif asked is not None:
        if (question := asked.get(row.text("question_id"))) is None:
            raise RecordError(f"the file of questions has no id {row.text('question_id')!r:.60}")
        record = _asked_by(question, own, of_image)
    elif (record := by_id.get(row.text("question_id"))) is None:
        raise RecordError(
            f"the records of {split} have no id {row.text('question_id')!r:.60}; if the ids are those of a file of "
            "questions, give it (--questions)"
        )
    if said:
        _require_same(record, said)
    return record


def _asked_by(
    asked: _Asked,
    own: dict[str, list[BenchmarkRecord]],
    of_image: dict[tuple[str, str | None], list[BenchmarkRecord]],
) -> BenchmarkRecord:
    """The record that a row of the file of questions asks."""
    if asked.image is None:
        record = _at(own, asked.split, asked.place)
        _require_same(record, asked.text)
        return record
    found = [
        each
        for each in of_image.get((asked.split, asked.image), ())
        if spelled(each.question) in spelled(asked.text)
    ]
    if found:
        return max(found, key=lambda each: len(each.question))  # not a question that is a part of it
    raise RecordError(
        f"it answers {asked.text!r:.80} about {asked.image!r:.80}, and no record of {asked.split!r:.40} does; give the "
        "records that were asked"
    )


def _at(own: dict[str, list[BenchmarkRecord]], split: str, place: int) -> BenchmarkRecord:
    rows = own.get(split, [])
    if place >= len(rows):
        raise RecordError(
            f"it would be row {place + 1} of {split}, and the records given have {len(rows)} there"
        )
    return rows[place]


def _require_same(record: BenchmarkRecord, asked: str) -> None:
    """Refuse a record that asks something else; what a harness adds is none, nor is a known misspelling."""
    if spelled(record.question) not in spelled(asked):
        raise RecordError(
            f"it answers {asked!r:.80}, and the record at its place asks {record.question!r:.80} ({record.where}); "
            "give the records that were asked"
        )


def _said(row: Row) -> str:
    """What the model said, under "answer" or else "text"; it may be empty.

    Raises:
        RecordError: there is no such text.
    """
    name = "answer" if "answer" in row.fields else "text"
    value = row.fields.get(name)
    if not isinstance(value, str):
        raise RecordError(f"expected what was said as 'answer' or 'text', got {value!r:.60}")
    return row.text(name, empty=True)
