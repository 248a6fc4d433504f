"""A benchmark's run becomes cases."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emma_viz.cases.case import CaseAnswer, CaseRecord, Said
from emma_viz.cases.casebook import Added, Casebook
from emma_viz.cases.pictures import case_picture
from emma_viz.errors import ImageError, InputError
from emma_viz.progress import Progress
from emma_viz.records.answered import AnsweredRecord, AnsweredRun, ModelAnswer, RunAbout, open_answers
from emma_viz.records.benchmarks.record import BenchmarkRecord

_AT_ONCE = 1000
"""Records that are added in one transaction."""


@dataclass(frozen=True, kw_only=True)
class GatheredRun:
    """What became of a run."""

    added: Added
    """Questions and answers."""
    pictures: int
    """Images that were not kept before."""
    complaints: tuple[str, ...]
    """Records and images that were left out, and why."""


def gather_run(casebook: Casebook, folder: Path, *, progress: Progress | None = None) -> GatheredRun:
    """Add all records of a benchmark's run to a casebook, with their images; the miner's rules are applied to each.

    It may be done again, and after having been stopped: what is there already stays, but for answers that the run has
    otherwise, whose texts the history keeps.

    Args:
        casebook: where they are added.
        folder: a finished run of `emma-viz benchmark`, or one that was imported.
        progress: told of the records done.

    Raises:
        RecordError: it is no such run.
        InputError: see `Casebook.add`.
    """
    run = open_answers(folder)
    complaints = list(run.about.complaints)
    total = Added(cases=0, answers=0, replaced=0)
    seen: dict[str, str] = {}
    pictures = 0
    waiting: list[CaseRecord] = []
    for done, answered in enumerate(run.answers(), start=1):
        try:
            image, fresh = _keep_image(casebook, run, answered, seen)
            pictures += fresh
            waiting.append(case_of_answers(answered, image=image, about=run.about, folder=folder))
        except InputError as error:
            complaints.append(f"record {answered.record.id!r} of {answered.record.split!r}: {error}")
        if len(waiting) == _AT_ONCE:
            total, waiting = _sum(total, casebook.add(waiting)), []
        if progress is not None:
            progress(done, run.about.records, "records")
    total = _sum(total, casebook.add(waiting))
    return GatheredRun(added=total, pictures=pictures, complaints=tuple(complaints))


def case_of_answers(answered: AnsweredRecord, *, image: str, about: RunAbout, folder: Path) -> CaseRecord:
    """The case of one answered record.

    Args:
        answered: the record with its answers.
        image: the image's hash; "" for none.
        about: of the run.
        folder: of the run, to which paths of studies are relative.

    Raises:
        InputError: a field is longer than a case holds, or not to be kept.
    """
    record = answered.record
    return CaseRecord(
        image=image,
        image_name=answered.image or "",
        prompt=answered.prompt,
        asked=record.asked,
        truth=record.truth,
        object=record.object,
        present=record.present,
        absent=record.absent,
        benchmark=record.benchmark,
        split=record.split,
        row=record.id,
        category=record.category,
        cluster=record.cluster,
        flags=record.flags,
        groups=record.groups,
        answers=tuple(
            _answer(each, about=about, asked_yes_no=record.asked == "yes-no", folder=folder)
            for each in answered.models
        ),
    )


def cluster_of(case: CaseRecord) -> str:
    """The cluster that a benchmark's tables draw a case with."""
    return case.cluster or case.image_name or case.image or f"{case.split}/{case.row or case.identity}"


def answered_of(case: CaseRecord, models: Sequence[str]) -> AnsweredRecord:
    """The other way: a case as a benchmark's tables take it.

    Args:
        case: one that all of the models answered.
        models: whose answers are wanted, in this order.

    Raises:
        InputError: it asks for yes or no, and its truth is neither.
    """
    record = BenchmarkRecord(
        benchmark=case.benchmark,
        split=case.split,
        id=case.row or case.identity,
        asked=case.asked,
        question=case.prompt,
        image=case.image_name or case.image or None,
        truth=case.truth,
        present=case.present,
        absent=case.absent,
        object=case.object,
        category=case.category,
        cluster=cluster_of(case),
        groups=case.groups,
        flags=case.flags,
    )
    answers = {answer.model: answer for answer in case.answers}
    return AnsweredRecord(
        record=record,
        prompt=case.prompt,
        image=case.image_name or None,
        image_sha256=case.image or None,
        models=tuple(_model_answer(answers[name]) for name in models),
    )


def _model_answer(answer: CaseAnswer) -> ModelAnswer:
    return ModelAnswer(
        name=answer.model,
        fingerprint=answer.fingerprint,
        answer=answer.text,
        p_yes=answer.p_yes,
        p_no=answer.p_no,
        read="yes" if answer.said == "yes" else "no" if answer.said == "no" else None,
        correct=answer.right,
        made_up=answer.made_up,
        missed=answer.missed,
    )


def _answer(answer: ModelAnswer, *, about: RunAbout, asked_yes_no: bool, folder: Path) -> CaseAnswer:
    said: Said = (answer.read or "unparsed") if asked_yes_no else ""
    study = answer.study
    return CaseAnswer(
        model=answer.name,
        fingerprint=answer.fingerprint,
        beside=about.beside.get(answer.name, ""),
        text=answer.answer,
        said=said,
        right=answer.correct,
        scorer=about.scorers[0],
        p_yes=answer.p_yes,
        p_no=answer.p_no,
        made_up=answer.made_up,
        missed=answer.missed,
        study="" if study is None else str((folder / study.path).resolve()),
        entry="" if study is None else study.entry,
        sample=0 if study is None else study.sample,
    )


def _keep_image(
    casebook: Casebook, run: AnsweredRun, answered: AnsweredRecord, seen: dict[str, str]
) -> tuple[str, bool]:
    """The hash of a record's image, and whether it was kept just now.

    Raises:
        ImageError: it cannot be read, or is another one than was asked about.
        RecordError: it leads out of the folder of images.
    """
    known, name = answered.image_sha256, answered.image
    kept, fresh = seen.get(name or ""), False
    if kept is None and known is not None and casebook.has_picture(known):
        kept = known
    elif kept is None:
        path = run.image_file(answered)
        if path is None:
            return known or "", False
        picture = case_picture(path)
        kept, fresh = picture.hash, not casebook.has_picture(picture.hash)
        if known in (None, kept):
            casebook.keep_picture(picture)
    if known not in (None, kept):
        raise ImageError(f"{name}: expected the image that was asked about, and its pixels are others.")
    if name:
        seen[name] = kept
    return kept, fresh


def _sum(one: Added, other: Added) -> Added:
    return Added(
        cases=one.cases + other.cases,
        answers=one.answers + other.answers,
        replaced=one.replaced + other.replaced,
    )
