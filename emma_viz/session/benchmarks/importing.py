"""Runs made elsewhere, as a run's folder: from a log to tables and cases in one step."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from emma_viz.data import image_hash, read_image
from emma_viz.errors import ImageError, InputError, RecordError
from emma_viz.files.atomic import PART
from emma_viz.records.answer_files import read_answer_file
from emma_viz.records.answered import ABOUT, AnsweredRecord, RunAbout
from emma_viz.records.benchmarks import (
    Benchmark,
    BenchmarkRecord,
    Key,
    RecordSet,
    answers_beside,
    picture,
    read_benchmark,
)
from emma_viz.records.imports import ImportedRun, read_lmms_log
from emma_viz.records.scorers import Answer
from emma_viz.records.vlmevalkit import is_vlmevalkit_table, read_vlmevalkit
from emma_viz.session.benchmarks.folder import ASKED_FILE, WRITTEN, no_longer_finished
from emma_viz.session.benchmarks.judging import judged, require_scorers
from emma_viz.session.benchmarks.results import benchmark_of
from emma_viz.session.benchmarks.run import FinishedRun, finish

LogKind = Literal["lmms-eval", "vlmevalkit", "records", "answers"]
"""Whose log it is; `records` are a benchmark's own files with answers in them, as MME's results are, or
beside them, as CHAIR's; `answers` are files of answers alone, as POPE's and LLaVA's are."""
_LMMS_TASK = re.compile(r"samples_(.+?)(?:\.[\w.-]*)?$")
_SCORERS = {
    "lmms-eval": ("lmms-eval", "pope", "vlmevalkit"),
    "vlmevalkit": ("vlmevalkit", "pope", "lmms-eval"),
}
"""What tables show when neither scorers nor a benchmark are named."""


@dataclass(frozen=True, kw_only=True)
class _Log:
    """One log, and what is known of it."""

    path: Path
    kind: LogKind
    model: str
    task: str


def import_run(
    logs: Sequence[Path],
    out: Path,
    *,
    kind: LogKind | None = None,
    names: Sequence[str] = (),
    task: str = "",
    benchmark_name: str = "",
    records: Sequence[Path] = (),
    questions: Path | None = None,
    images: Path | None = None,
    scorers: Sequence[str] = (),
    overwrite: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> FinishedRun:
    """Make a run's folder of answers that were given elsewhere.

    Args:
        logs: files; those of one model, such as POPE's three tasks, are joined.
        out: the run's folder, made.
        kind: whose logs they are; None tells by the files: tables are VLMEvalKit's, also as JSON; other
            JSON is lmms-eval's.
        names: of the models, one for all logs or one each; None takes that of VLMEvalKit's file ({model}_{dataset}), or
            of the folder that lmms-eval writes into.
        task: lmms-eval's task, VLMEvalKit's data set, or the split of answers; "" takes it from the file's name.
        benchmark_name: which benchmark it is; "" for one that is none of ours.
        records: the benchmark's own files, which rows are joined to and held against: they know images. Results that
            hold the truth, as MME's, take none.
        questions: for answers whose ids are those of a file of questions: that file.
        images: the folder of images.
        scorers: by name; the first decides what is right.
        overwrite: replace another import.
        say: called with what is left out.

    Raises:
        InputError: no row could be used, names do not fit, the folder holds something else, or files are given that
            would not be looked at.
        RecordError: a file cannot be read.
    """
    _require_import_place(out, overwrite=overwrite)
    found = [_log(path, kind, name, task) for path, name in zip(logs, _each(names, len(logs)), strict=True)]
    known = benchmark_of(benchmark_name)
    if benchmark_name and known is None:
        raise InputError(f"There is no benchmark {benchmark_name!r}.")
    _require_of_use(
        {log.kind for log in found}, known, bool(records), questions is not None, images is not None
    )
    beside = answers_beside(benchmark_name, records) if kind == "records" else None
    own = read_benchmark(benchmark_name, records) if records and known and beside is None else None
    complaints = [] if own is None else list(own.complaints)
    answers: dict[str, dict[Key, Answer]] = {}
    asked: dict[Key, BenchmarkRecord] = {}
    for log in found:
        run = _read_results(log.path, beside) if beside else _read_log(log, own, benchmark_name, questions)
        complaints += run.complaints
        if run.repeated:
            complaints.append(f"{log.path.name}: {run.repeated} rows come again; the last counts")
        for each in run.records:
            before = asked.setdefault(each.key, each)
            _require_same(each, before, log.path)
            if before.image is None:
                asked[each.key] = each
        said = answers.setdefault(log.model, {})
        if again := len(said.keys() & run.answers.keys()):
            complaints.append(
                f"{log.path}: {again} rows stand in another log of {log.model}; the last counts"
            )
        said |= run.answers
    chosen = require_scorers(scorers or (known.scorers if known else ()) or _SCORERS[found[0].kind])
    if not any(answer.leaning is not None for some in answers.values() for answer in some.values()):
        chosen = tuple(each for each in chosen if each != "cobra") or chosen
    joined = [
        each
        for each in (
            _joined(record, answers, known, images, chosen[0], complaints) for record in asked.values()
        )
        if each is not None
    ]
    if not joined:
        raise InputError(f"no row was answered by all of {', '.join(answers)}.")
    complaints = list(dict.fromkeys(complaints))  # those about records stand beside each log
    for complaint in complaints:
        say(f"left out: {complaint}")
    out.mkdir(parents=True, exist_ok=True)
    about = RunAbout(
        benchmark=benchmark_name or found[0].task,
        scorers=chosen,
        models=tuple(answers),
        images="" if images is None else str(images.resolve()),
        records=len(joined),
        complaints=tuple(complaints),
    )
    no_longer_finished(out)
    return finish(out, about, joined)


def _require_import_place(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds something else; what an import that was killed has left is none.

    Raises:
        InputError: it does, or another import is there and `overwrite` is False.
    """
    if not out.exists():
        return
    if (out / ASKED_FILE).exists() or any(
        each.name not in WRITTEN and not PART.fullmatch(each.name) for each in out.iterdir()
    ):
        raise InputError(f"{out} holds something that is no import; give another --out.")
    if (out / ABOUT).exists() and not overwrite:
        raise InputError(f"{out} has another import; give another --out, or --overwrite.")


def _require_of_use(
    kinds: set[LogKind], known: Benchmark | None, records: bool, questions: bool, images: bool
) -> None:
    """Refuse what would not be looked at, and logs without what they need beside them.

    Raises:
        InputError: there is such a thing, or it lacks.
    """
    if known is None and (records or images or "records" in kinds):
        raise InputError(
            "expected the benchmark whose records, images or results these are (--benchmark), got none."
        )
    if questions and "answers" not in kinds:
        raise InputError(
            f"--questions is for files of answers alone (--kind answers), got {', '.join(sorted(kinds))}; leave it out."
        )
    if "answers" in kinds and not records:
        raise InputError("expected the records that were answered (--benchmark and --records), got none.")
    if images and not records and "records" not in kinds:
        raise InputError(
            "expected the benchmark's own files, which name its images (--records), beside --images, got none."
        )


def _require_same(record: BenchmarkRecord, before: BenchmarkRecord, log: Path) -> None:
    """Refuse two logs that ask different things under one key; what a harness adds for a model may differ, and a log
    that names no image says nothing of it.

    Raises:
        InputError: they do.
    """
    one, other = ((each.benchmark, each.truth, each.present, each.absent) for each in (record, before))
    images = {each.image for each in (record, before) if each.image is not None}
    if (
        one != other
        or len(images) > 1
        or not (record.question in before.question or before.question in record.question)
    ):
        raise InputError(
            f"{log} asks something else under the same number: {record.where} asks {record.question!r:.80} "
            f"({record.benchmark}), {before.where} asks {before.question!r:.80} ({before.benchmark}); import each task "
            "into its own --out, or give the benchmark's own files (--benchmark, --records)."
        )


def _each(names: Sequence[str], count: int) -> list[str]:
    if len(names) not in (0, 1, count):
        raise InputError(
            f"expected one name for all logs or one each, got {len(names)} names for {count} logs."
        )
    return list(names) if len(names) == count else [names[0] if names else ""] * count


def _log(path: Path, kind: LogKind | None, name: str, task: str) -> _Log:
    """What the file's name says."""
    whose = kind or ("vlmevalkit" if is_vlmevalkit_table(path) else "lmms-eval")
    if whose not in get_args(LogKind):
        raise InputError(f"expected one of {', '.join(get_args(LogKind))}, got {whose!r}.")
    if whose == "vlmevalkit":
        model, _, dataset = path.stem.removesuffix("_auxmatch").rpartition("_")
        return _Log(path=path, kind=whose, model=name or model or path.stem, task=task or dataset)
    if whose == "answers":
        return _Log(path=path, kind=whose, model=name or path.stem, task=task)
    told = _LMMS_TASK.search(path.stem)
    if whose == "lmms-eval" and told is None and path.suffix.lower() == ".json":
        task = task or path.stem.partition(".")[0]  # until 0.2 a file was called as its task
    if whose == "lmms-eval" and not task and told is None:
        raise InputError(
            f"{path}: expected a name as lmms-eval gives it (…_samples_TASK.jsonl, TASK.json); else say which task it "
            "is (--task)."
        )
    called = task or (told[1] if told else path.stem)
    return _Log(path=path, kind=whose, model=name or path.resolve().parent.name or path.stem, task=called)


def _read_log(log: _Log, own: RecordSet | None, benchmark_name: str, questions: Path | None) -> ImportedRun:
    if log.kind == "answers" and own is not None:
        return read_answer_file(log.path, records=own, split=log.task, questions=questions)
    if log.kind == "lmms-eval":
        return read_lmms_log(log.path, task=log.task, records=own)
    return read_vlmevalkit(log.path, dataset=benchmark_name or log.task, records=own)


def _read_results(path: Path, beside: Callable[[Path], RecordSet]) -> ImportedRun:
    """A benchmark's own file with answers in it, or a file of answers beside its own."""
    found = beside(path)
    answered = tuple(each for each in found.records if each.key in found.said)
    if not answered:
        raise InputError(f"{path}: no row has an answer beside its truth.")
    return ImportedRun(
        records=answered,
        answers={key: Answer(text=text.strip()) for key, text in found.said.items()},
        complaints=found.complaints,
        repeated=0,
    )


def _joined(
    record: BenchmarkRecord,
    answers: dict[str, dict[Key, Answer]],
    kind: Benchmark | None,
    images: Path | None,
    by: str,
    complaints: list[str],
) -> AnsweredRecord | None:
    """One record with all its answers; None, and a complaint, where one lacks."""
    if lacking := [model for model, said in answers.items() if record.key not in said]:
        complaints.append(f"{record.where}: {', '.join(lacking)} has no answer to it")
        return None
    image, digest = None, None
    if record.image is not None and images is not None and kind is not None:
        try:
            path = picture(kind, record, images)
            image, digest = path.relative_to(images).as_posix(), image_hash(read_image(path))
        except (RecordError, ImageError) as error:
            complaints.append(f"{record.where}: kept without its image: {error}")
    return AnsweredRecord(
        record=record,
        prompt=record.question,
        image=image,
        image_sha256=digest,
        models=tuple(
            judged(record, said[record.key], name=model, fingerprint="", by=by, kind=kind)
            for model, said in answers.items()
        ),
    )
