"""Run a benchmark: read its records, ask the models, keep the answers, score them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from emma_viz.checkpoints import inspect
from emma_viz.checkpoints.sources import local_folder
from emma_viz.errors import CheckpointError, InputError, RecordError
from emma_viz.progress import Progress
from emma_viz.records.answered import AnsweredRecord, AnsweredRun, RunAbout, open_answers, write_answers
from emma_viz.records.benchmarks import Benchmark, benchmark
from emma_viz.session.answering import Given, given_answers
from emma_viz.session.benchmarks.asked import AskedSet, asked_form
from emma_viz.session.benchmarks.folder import RunFolder, open_run, require_run_place
from emma_viz.session.benchmarks.judging import judged, require_scorers
from emma_viz.session.benchmarks.results import tables_of, write_results
from emma_viz.session.benchmarks.tables import Table
from emma_viz.session.loading import free, load, named_marks, one_mark, require_loadable
from emma_viz.session.options import BATCH, BROKEN_LIMIT, Asking, Running


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run that is done."""

    run: AnsweredRun
    """Its folder."""
    tables: tuple[Table, ...]
    """What it measured."""
    files: tuple[Path, ...]
    """The files of the tables."""


def run_benchmark(
    name: str,
    models: Sequence[str | Path],
    out: Path,
    *,
    records: Sequence[Path] = (),
    images: Path | None = None,
    scorers: Sequence[str] = (),
    form: str = "plain",
    limit: int | None = None,
    shard: tuple[int, int] = (1, 1),
    batch_size: int = BATCH,
    broken_limit: int = BROKEN_LIMIT,
    overwrite: bool = False,
    asking: Asking = Asking(),
    running: Running = Running(),
    convert_profile: bool = False,
    say: Callable[[str], None] = lambda text: None,
    progress: Progress | None = None,
) -> FinishedRun | None:
    """Ask models the questions of a benchmark, and score the answers.

    What was answered stays: a run that was interrupted goes on where it stopped when it is asked for again, and ends in
    the same files, byte for byte. So do shards, whoever ends last.

    Args:
        name: of the benchmark.
        models: bundled names, run directories, hub ids or files.
        out: the run's folder, made or gone on with.
        records: the benchmark's files, or folders of them.
        images: the folder of its images.
        scorers: by their names; the first decides what is right. The benchmark's own when none is named.
        form: a name of QUESTION_FORMS, or a text with {question} in it.
        limit: ask the first so many records of each split alone.
        shard: (i, n) asks the i-th of n parts; the one that finds all answered writes the tables.
        batch_size: questions that go through a model at a time.
        broken_limit: rows that may be left out because they or their images cannot be used.
        overwrite: begin again where another run is; of one shard alone.
        asking: how answers are drawn; its prompt is not used.
        running: how the models are loaded.
        convert_profile: convert images with a colour profile to sRGB.
        say: called with what is left out, and how far other shards are.
        progress: called as models load and answers are given.

    Returns:
        The finished run; None while other shards have not answered.

    Raises:
        InputError: there is no such benchmark or scorer, no record, another run in the folder, a model's name stands
            for other weights, or another image encoder or tokenizer, than have answered, or one shard of several is to
            overwrite.
        RecordError: a file cannot be read.
        EmmaVizError: a model cannot be loaded or run.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, got {limit}.")
    if overwrite and shard[1] > 1:
        raise InputError(
            f"expected one process to begin a run again (--overwrite), got shard {shard[0]} of {shard[1]}, which would "
            "take away what the others answer; begin again with one process, or give another --out."
        )
    require_run_place(out)
    kind, by = benchmark(name), require_scorers(scorers or benchmark(name).scorers)
    found = AskedSet.of(
        name, kind, records, images, out, asked_form(form), limit=limit, broken_limit=broken_limit,
        convert_profile=convert_profile,
    )  # fmt: skip
    for complaint in found.complaints:
        say(f"left out: {complaint}")
    recipe = found.recipe(name, models, asking, batch_size, convert_profile=convert_profile)
    # Before its name is written into the run, which from then on is finished with its answers alone. Weights of a model
    # that has answered all may be gone; if they are there, they and what is beside them must be what answered.
    before = RunFolder(path=out, recipe=recipe)
    for source, model_name in zip(models, recipe.models, strict=True):
        if overwrite or before.pending(model_name):
            require_loadable(source, running)
        else:
            mark, marks = _standing(source, running)
            before.require_same_model(model_name, mark, running.dtype, marks)
    folder = open_run(out, recipe, overwrite=overwrite)
    for source, model_name in zip(models, recipe.models, strict=True):
        pending = folder.pending(model_name, shard)
        if pending:
            loaded = load(source, running, progress)
            folder.admit(model_name, loaded.info, loaded.notes, named_marks(source, running))
            for done, part in enumerate(pending):
                if progress is not None:
                    progress(done, len(pending), f"{name}: {model_name}")
                _answer(folder, model_name, part, found, loaded, asking, convert_profile)
            del loaded
            free(source)
    if not folder.finished:
        lacking = {each: len(left) for each in folder.recipe.models if (left := folder.pending(each))}
        say(
            f"{sum(lacking.values())} parts of {len(folder.parts) * len(folder.recipe.models)} are still to be "
            f"answered, by {', '.join(lacking)}"
        )
        return None
    return _finish(folder, found, kind, by)


def _standing(source: str | Path, running: Running) -> tuple[str | None, dict[str, str]]:
    """What a model's name stands for now, without loading it.

    Returns:
        (fingerprint of the weights, marks of what is beside them); (None, {}) where the weights are gone.

    Raises:
        CheckpointError: the weights are there, and an encoder or tokenizer that the user names cannot be read.
    """
    try:
        if local_folder(source) is None:  # nothing is downloaded for it
            return None, {}
        if running.llm_source is None:
            mark = inspect(source).fingerprint
        else:
            mark = require_loadable(source, running)[1].info.fingerprint
    except CheckpointError:
        return None, {}
    return mark, named_marks(source, running)


def _answer(folder: RunFolder, name: str, part: int, found: AskedSet, model, asking, convert_profile) -> None:
    where = folder.bounds_of(part)
    given = [
        each
        for batch in given_answers(
            model,
            found.questions[where],
            asking=replace(asking, seed=asking.seed + where.start),
            batch_size=folder.recipe.batch_size,
            convert_profile=convert_profile,
        )
        for each in batch
    ]
    folder.write(name, part, given)


def _finish(folder: RunFolder, found: AskedSet, kind: Benchmark, scorers: tuple[str, ...]) -> FinishedRun:
    """Join the models' answers, judge them, and write everything."""
    models = folder.recipe.models
    given = [list(folder.read(model)) for model in models]
    marks = []
    for model in models:
        info = folder.info(model)
        if info is None:
            raise RecordError(
                f"{folder.path} has answers of {model} and no record of it; run it with --overwrite."
            )
        marks.append(info.fingerprint)
    joined: list[AnsweredRecord | None] = [None] * len(found.records)
    for number, (record, question, path, place) in enumerate(
        zip(found.records, found.questions, found.paths, found.places, strict=True)
    ):
        each: list[Given] = [some[number] for some in given]
        digests = {one.image_sha256 for one in each}
        if len(digests) > 1:
            raise RecordError(
                f"{path}: the image was changed between two models; run the benchmark with --overwrite."
            )
        joined[place] = AnsweredRecord(
            record=record,
            prompt=question.prompt,
            image=path,
            image_sha256=digests.pop(),
            models=tuple(
                judged(record, one.answer, name=model, fingerprint=mark, by=scorers[0], kind=kind)
                for model, mark, one in zip(models, marks, each, strict=True)
            ),
        )
    about = RunAbout(
        benchmark=folder.recipe.benchmark,
        scorers=scorers,
        models=models,
        images=found.images,
        records=len(joined),
        complaints=found.complaints,
        notes=tuple(f"{model}: {note}" for model in models for note in folder.notes(model)),
        beside={model: mark for model in models if (mark := one_mark(folder.marks(model)))},
    )
    return finish(folder.path, about, [each for each in joined if each is not None])


def finish(path: Path, about: RunAbout, records: Sequence[AnsweredRecord]) -> FinishedRun:
    """Write a run's answers, and the tables that are made of them."""
    write_answers(path, about, records)
    run = open_answers(path)
    tables = tables_of(run)
    return FinishedRun(run=run, tables=tuple(tables), files=write_results(run, tables))
