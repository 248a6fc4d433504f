"""Evidence of a casebook's cases, measured model by model and kept beside each case."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from emma_viz.cases.case import CaseRecord
from emma_viz.cases.casebook import Casebook
from emma_viz.checkpoints import LoadedModel
from emma_viz.errors import InputError, MissingLensError
from emma_viz.lens import Lens, load_lens
from emma_viz.progress import Progress
from emma_viz.records.benchmarks import BenchmarkRecord, benchmark, names
from emma_viz.session.entry_names import entry_name
from emma_viz.session.evidence.asked import AskedCase
from emma_viz.session.evidence.labelled import LabelledImages, labelled_images
from emma_viz.session.evidence.measuring import EvidenceRoom
from emma_viz.session.evidence.references import References, tabletop_references
from emma_viz.session.loading import free, load, named_marks, one_mark
from emma_viz.session.options import DEFAULT_LENSES, Running


def keep_evidence_of(
    casebook: Casebook,
    ids: Sequence[str],
    models: Sequence[str | Path],
    *,
    references: References | None = None,
    lens: str = DEFAULT_LENSES[0],
    running: Running = Running(),
    say: Callable[[str], None] = lambda text: None,
    progress: Progress | None = None,
) -> int:
    """Measure what is not measured yet, a case and model at a time; each is kept before the next begins.

    A case whose evidence was measured with the same weights, image encoder, tokenizer and recipe stays as it is, so
    that a call that was stopped goes on when it is asked for again.

    Args:
        casebook: holds the cases and their images.
        ids: of the cases; those that ask no yes or no, have no image, or cannot be measured, are passed over.
        models: as `emma-viz benchmark` takes them: the cases must have answers in their names.
        references: what cases are compared with; scenes of the tabletop world when None.
        lens: kind of the models' lenses; a model without one has no retention.
        running: how the models are loaded.
        say: called with what is passed over, and why.
        progress: called as references are read and cases are measured.

    Returns:
        How many were measured.

    Raises:
        EmmaVizError: a model cannot be loaded or run.
        CasebookError: the casebook cannot be read or written.
    """
    cases = {case.id: case.record for case in casebook.cases(ids)}
    others = tabletop_references() if references is None else references
    labelled = {name: labelled_images(casebook, name) for name in _labelling(cases.values())}
    done = 0
    for source in models:
        name = entry_name(source)
        asked = {id: record for id, record in cases.items() if _asks(record, name)}
        say(f"{name}: {len(asked)} of {len(cases)} cases ask it for yes or no about an image")
        if not asked:
            continue
        model, beside = load(source, running, progress), one_mark(named_marks(source, running))
        room = EvidenceRoom(model, others, lens=_lens(model, lens, say), progress=progress)
        for number, (id, record) in enumerate(asked.items()):
            if progress is not None:
                progress(number, len(asked), f"{name}: evidence")
            known = labelled.get(record.benchmark)
            labels = "" if known is None else known.digest(record.object)
            recipe = " ".join(filter(None, (model.info.fingerprint[:32], beside, room.recipe_of(labels))))
            kept = casebook.evidence(id).get(name)
            if kept is not None and kept[0] == recipe:
                continue
            try:
                case = asked_case(casebook, record, name, model, beside=beside, labelled=known)
                (found,) = room.evidence([case])
                casebook.keep_evidence(
                    id, name, recipe=recipe, document=found.to_json(), measured=found.measured(name)
                )
            except InputError as error:  # also where a number of it is none
                say(f"{record.prompt!r:.80}: {error}")
                continue
            done += 1
        del model, room
        free(source)
    return done


def _labelling(records: Iterable[CaseRecord]) -> set[str]:
    """The benchmarks whose own images have labels, and no masks."""
    known = {each.benchmark for each in records}
    return {each for each in known if each not in names() or benchmark(each).mask is None}


def asked_case(
    casebook: Casebook,
    record: CaseRecord,
    name: str,
    model: LoadedModel,
    *,
    beside: str = "",
    labelled: LabelledImages | None = None,
) -> AskedCase:
    """What is measured of a case.

    Args:
        casebook: holds the image.
        record: the case.
        name: in which the model answered.
        model: that is measured.
        beside: its `CaseAnswer.beside`; "" where it is not known.
        labelled: images of the case's benchmark whose labels are known.

    Raises:
        InputError: other weights, or another image encoder or tokenizer, answered in the model's name, or the casebook
            lacks the image.
    """
    answer = record.answer_of(name)
    if answer is not None and answer.fingerprint not in ("", model.info.fingerprint):
        raise InputError(f"other weights answered in the name of {name}; run the benchmark with these.")
    if answer is not None and beside and answer.beside not in ("", beside):
        raise InputError(
            f"another image encoder or tokenizer answered in the name of {name}; run the benchmark with these."
        )
    picture = casebook.picture(record.image)
    if picture is None:
        raise InputError("the casebook does not have its image.")
    return AskedCase(
        image=picture.image(),
        prompt=record.prompt,
        object=record.object,
        mask=_mask(record),
        box=record.box,
        labelled=labelled,
    )


def _asks(record: CaseRecord, name: str) -> bool:
    return record.asked == "yes-no" and bool(record.image) and record.answer_of(name) is not None


def _mask(record: CaseRecord):
    """Where the object is, of a benchmark that knows."""
    if record.benchmark not in names() or not record.object or record.truth not in ("yes", "no"):
        return None
    where = benchmark(record.benchmark).mask
    if where is None:
        return None
    asked = BenchmarkRecord(
        benchmark=record.benchmark,
        split=record.split,
        id=record.row,
        asked="yes-no",
        question=record.prompt,
        image=record.image_name,
        truth=record.truth,
        object=record.object,
    )
    return where(asked)


def _lens(model: LoadedModel, kind: str, say: Callable[[str], None]) -> Lens | None:
    try:
        return load_lens(model, kind)
    except MissingLensError as error:
        say(f"{model.name}: no retention: {error}")
        return None
