"""Answered records: what a benchmark's run leaves for whoever makes cases, tables or pictures of it.

A run is a folder. `run.json` says what was run (`RunAbout`); `answers.jsonl` has one line a record, in the benchmark's
order (`AnsweredRecord`): the record itself, what was asked, the image, and of each model what it said and whether that
is right.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from emma_viz.data.provenance import dump_json, jsonable
from emma_viz.errors import RecordError
from emma_viz.files.atomic import write_file
from emma_viz.files.inside import require_inside
from emma_viz.files.json_door import read_json
from emma_viz.files.schema import Count, Share, shape
from emma_viz.files.versions import require_version
from emma_viz.records.benchmarks.record import BenchmarkRecord
from emma_viz.records.json_spans import spans
from emma_viz.records.scorers.answer import Answer

ANSWERED_FORMAT = 2
"""Of both files. Runs of version 1 did not say what was beside the weights."""
ANSWERED, ABOUT = "answers.jsonl", "run.json"
"""Names of the two files in a run's folder."""


@dataclass(frozen=True, kw_only=True)
class StudyPlace:
    """Where what a model held of a question is kept."""

    path: str
    """The study."""
    entry: str
    """The entry in it."""
    sample: Count
    """The question's number in the entry."""


@dataclass(frozen=True, kw_only=True)
class ModelAnswer:
    """What one model said to one question."""

    name: str
    """The model's, as in the run's tables."""
    fingerprint: str
    """Tells its weights from others; "" where it answered elsewhere and nothing tells."""
    answer: str
    """What it wrote."""
    p_yes: Share | None = None
    """Probability, over the vocabulary, of the token "Yes" as the answer's first; None where it is not known."""
    p_no: Share | None = None
    """The same of "No"."""
    read: Literal["yes", "no"] | None = None
    """What the run's first scorer reads; None where it is neither, or nothing that is answered by yes or no."""
    correct: bool | None = None
    """Whether that is right; None for descriptions."""
    made_up: tuple[str, ...] = ()
    """Of a description: objects that it names and that are not there."""
    missed: tuple[str, ...] = ()
    """Of a description: objects that are there and that it does not name."""
    study: StudyPlace | None = None
    """The study entry behind it, where there is one."""

    @property
    def said(self) -> Answer:
        """As scorers take it."""
        return Answer(text=self.answer, p_yes=self.p_yes, p_no=self.p_no)


@dataclass(frozen=True, kw_only=True)
class AnsweredRecord:
    """One record of a benchmark with the answers of every model of the run."""

    format: int = ANSWERED_FORMAT
    """ANSWERED_FORMAT."""
    record: BenchmarkRecord
    """As the benchmark's reader gave it: id, question, truth, object, category, groups, flags."""
    prompt: str
    """What was asked: the question with what the form of the run adds to it, without the model's own template."""
    image: str | None
    """The file of its image, relative to the run's folder of images; None for a question about none, or where the file
    is not known."""
    image_sha256: str | None
    """SHA-256 of the image's size and pixels, as traces and studies name images (`emma_viz.data.image_hash`)."""
    models: tuple[ModelAnswer, ...]
    """In the run's order."""


@dataclass(frozen=True, kw_only=True)
class RunAbout:
    """What a run was, and where its images are."""

    format: int = ANSWERED_FORMAT
    """ANSWERED_FORMAT."""
    benchmark: str
    """The benchmark's name; that of the task for a run that was made elsewhere."""
    scorers: tuple[str, ...]
    """The first decides `ModelAnswer.read` and `correct`."""
    models: tuple[str, ...]
    """Their names, in order."""
    images: str
    """The folder of the images: absolute, or relative to the run's folder; "" where there is none."""
    records: Count
    """Lines of the answers."""
    complaints: tuple[str, ...] = ()
    """Rows that were left out when the benchmark or the log was read, each with its line and the reason."""
    notes: tuple[str, ...] = ()
    """What one must know of the models' answers, each with the model's name: what of a checkpoint's own settings steers
    them, how its prompts are written."""
    beside: dict[str, str] = field(default_factory=dict)
    """Model → what tells its image encoder and tokenizer from those of another model of the same weights; without those
    of which that is not known."""

    def to_json(self) -> dict[str, Any]:
        """What `run.json` holds."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class AnsweredRun:
    """A run that was opened; its answers are read line by line."""

    path: Path
    """The run's folder."""
    about: RunAbout
    """What stands in run.json."""

    def answers(self) -> Iterator[AnsweredRecord]:
        """The records, in the benchmark's order.

        Raises:
            RecordError: a line is none, or there are fewer or more than `about.records`.
        """
        return read_answers(self.path / ANSWERED, expected=self.about.records)

    def image_file(self, record: AnsweredRecord) -> Path | None:
        """The image's file; None where there is none.

        Raises:
            RecordError: it leads out of the folder of images.
        """
        if record.image is None or not self.about.images:
            return None
        folder = self.path / self.about.images
        require_inside(folder / record.image, folder, error=RecordError, where=f"record {record.record.id!r}")
        return folder / record.image


def open_answers(path: Path) -> AnsweredRun:
    """Open a benchmark run's folder.

    Raises:
        RecordError: it is none, is not finished, or was written in another format.
    """
    if not (path / ABOUT).exists() or not (path / ANSWERED).exists():
        raise RecordError(
            f"{path}: expected a finished run of a benchmark, with {ABOUT} and {ANSWERED}; make or finish it with "
            "`emma-viz benchmark`."
        )
    value = read_json(path / ABOUT, error=RecordError)
    _require_known(value, str(path / ABOUT))
    return AnsweredRun(path=path, about=shape(value, RunAbout, where=str(path / ABOUT), error=RecordError))


def _require_known(value: Any, where: str) -> None:
    require_version(value, "format", ANSWERED_FORMAT, where=where, error=RecordError, absent=1)


def read_answers(path: Path, *, expected: int | None = None) -> Iterator[AnsweredRecord]:
    """The lines of an `answers.jsonl`.

    Args:
        path: the file.
        expected: how many there must be; any number when None.

    Raises:
        RecordError: a line cannot be read, is of another format, or there are not as many.
    """
    count = 0
    for span in spans(path):
        count += 1
        where = f"{path}, record {span.index}"
        _require_known(span.value, where)
        yield shape(span.value, AnsweredRecord, where=where, error=RecordError)
    if expected is not None and count != expected:
        raise RecordError(f"{path}: expected {expected} records, got {count}; run the benchmark again.")


def write_answers(folder: Path, about: RunAbout, records: Iterable[AnsweredRecord]) -> None:
    """Write a run's two files, answers first, each whole or not at all; the same run gives the same bytes."""

    def lines(part: Path) -> None:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            for each in records:
                file.write(json_line(asdict(each)))

    write_file(folder / ANSWERED, lines)
    write_file(
        folder / ABOUT,
        lambda part: part.write_text(dump_json(about.to_json()), encoding="utf-8", newline="\n"),
    )


def json_line(value: Any) -> str:
    """One line of JSON; halves of characters are escaped."""
    text = json.dumps(jsonable(value), allow_nan=False, separators=(",", ":"))
    return f"{text}\n"
