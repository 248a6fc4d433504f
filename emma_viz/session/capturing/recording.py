"""Capture: ask models any number of questions, and keep in a study what their tokens held."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from emma_viz.capture.sites import Layers, choose, numbered_layers
from emma_viz.checkpoints import FoundModel, LoadedModel
from emma_viz.checkpoints.sources import resolve
from emma_viz.errors import InputError, StudyError
from emma_viz.lens import Lens, recording_for
from emma_viz.lens.info import require_fit
from emma_viz.lens.protocol import mismatch
from emma_viz.models.attention_sites import ATTENTION_SITES, sites_of
from emma_viz.progress import Progress
from emma_viz.session.capturing.marks import begun_otherwise, keep_marks
from emma_viz.session.capturing.questions import QuestionSet, gather
from emma_viz.session.capturing.request import Progressed, Request, progressed
from emma_viz.session.capturing.stores import (
    CaptureSize,
    bytes_of_each,
    kept,
    require_disk,
    require_type,
    tokens_of,
)
from emma_viz.session.entry_names import entry_name, keep_image_names
from emma_viz.session.fitting import fit_awaited, lenses_for
from emma_viz.session.loading import free, load, named_marks, one_each, require_loadable
from emma_viz.session.options import DEFAULT_LENSES, Asking, Keeping, Running, Store
from emma_viz.session.road import ask
from emma_viz.study import Study, open_study
from emma_viz.study.opening import made_or_removed, require_place
from emma_viz.study.shards import of_other_split, shard_name
from emma_viz.study.study_file import STUDY

_SITES = ("resid_post",)
"""Sites that are recorded when none are named."""


def capture(
    images: Any,
    models: Sequence[str | Path],
    path: Path,
    *,
    prompts: Sequence[str] = (),
    image_folder: Path | None = None,
    store: Store = Keeping.store,
    lenses: Sequence[str | Path | Lens] = DEFAULT_LENSES,
    force_lens: bool = False,
    fit_on: Path | None = None,
    sites: Sequence[str] | None = None,
    layers: Layers = "all",
    states_dtype: str = Keeping.states_dtype,
    overwrite: bool = Keeping.overwrite,
    batch_size: int = Keeping.batch_size,
    shard: tuple[int, int] = (1, 1),
    broken_limit: int = Keeping.broken_limit,
    asking: Asking = Asking(),
    running: Running = Running(),
    convert_profile: bool = False,
    say: Callable[[str], None] = lambda text: None,
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Record each model on images and questions, one entry of a study a model, a batch at a time.

    A capture that was interrupted goes on where it stopped when it is asked for again: what is there and was recorded
    with the same options stays. Batches of the same size then end in the same bytes, but for the times.

    Args:
        images: one or several: images, folders of them, globs, or lists of records (`emma_viz.records.questions`).
        models: bundled names, run directories, hub ids or files.
        path: the study.
        prompts: each is asked about each image; `asking.prompt` when there is none, but to records with questions of
            their own.
        image_folder: that records' images are relative to; None: that of their list.
        store: keep the states; or, `pooled`, their mean over the image tokens and those of the text's last token; or,
            `maps`, the pixels that a lens decodes of them.
        lenses: for maps, as `compare` takes them.
        force_lens: use a lens that belongs to another model.
        fit_on: for maps, as `compare` takes it.
        sites: hook sites; None is `resid_post`, and those that the lens reads for maps.
        layers: layers to keep (for maps: to decode), or all.
        states_dtype: of what is kept: float32, float16 or (states alone) bfloat16.
        overwrite: replace entries that were recorded with other options.
        batch_size: images that go through a model, and are held in memory, at a time.
        shard: (i, n) records the i-th of n parts of the questions, as an entry of its own; a study opens all as one.
        broken_limit: images of folders, globs and lists, and records, that may be left out because they cannot be used.
        asking: how answers are drawn; question i draws from `seed` + i.
        running: how the models are loaded.
        convert_profile: convert images with a colour profile to sRGB.
        say: called with what the capture will take of the disk, a line a model, and with what is left out.
        progress: called as models load, lenses are fitted and questions are answered.

    Returns:
        The names of the entries: those of the models, with the shard's number.

    Raises:
        StudyError: the study cannot be written, the disk has no room for it, it has an entry of that name that was
            recorded otherwise, or with another image encoder or tokenizer, and `overwrite` is False, or it has one that
            is split into another number of shards.
        EmmaVizError: a model cannot be loaded or run; what was recorded before stays, and an empty study is not made.
        CheckpointError: there is no such model; nothing was run.
        InputError: an image cannot be used, or two models would have one entry.
        LensError: maps were asked for, and there is no lens.
    """
    dtype = _required_type(store, states_dtype, batch_size=batch_size, sites=sites)
    for source in models:
        resolve(source)
    data_sets = _entry_names(models)
    entries = tuple(shard_name(name, *shard) for name in data_sets)
    asked = gather(
        images,
        prompts,
        default=asking.prompt,
        folder=image_folder,
        part=shard,
        broken_limit=broken_limit,
        convert_profile=convert_profile,
    )
    _say_left_out(asked, say)
    request = Request(
        image_hashes=asked.image_hashes,
        prompts=tuple(question.prompt for question in asked.questions),
        sites=tuple(sites or _SITES),
        layers=layers,
        dtype=dtype,
        asking=replace(asking, seed=asking.seed + asked.first),
        store=store,
    )
    require_place(path)
    _require_one_split(path, data_sets, shard[1])
    sources = dict(zip(entries, models, strict=True))
    requests = _requests(
        request, sources, lenses, running, force=force_lens, fit_on=fit_on, progress=progress
    )
    job = _Job(
        path=path, data_sets=data_sets, sources=sources, asked=asked, requests=requests, running=running,
        batch_size=batch_size, force_lens=force_lens, convert_profile=convert_profile, progress=progress,
    )  # fmt: skip
    job.record(overwrite=overwrite, say=say)
    return entries


def _required_type(
    store: Store, states_dtype: str, *, batch_size: int, sites: Sequence[str] | None
) -> torch.dtype:
    """The type of what is kept.

    Raises:
        InputError: options exclude each other, or have no meaning.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}.")
    dtype = getattr(torch, states_dtype)
    require_type(store, dtype)
    if store == "maps" and sites is not None:
        raise InputError("expected either sites or maps, got both: a lens says itself which sites it reads.")
    return dtype


def _say_left_out(asked: QuestionSet, say: Callable[[str], None]) -> None:
    """What of that which the user named is not asked about."""
    if asked.left_out:
        say(f"{len(asked.left_out)} images or records cannot be used and are left out")
    if asked.text_only:
        say(f"{asked.text_only} conversations have no image and are passed over")


def _require_one_split(path: Path, data_sets: Sequence[str], count: int) -> None:
    """Refuse what would stand beside the same data set in another number of shards.

    Raises:
        StudyError: the study holds such a one.
    """
    there = open_study(path).entries if (path / STUDY).exists() else {}
    for name in data_sets:
        if others := of_other_split(name, count, there):
            raise StudyError(
                f"expected a study that holds {name!r} as it is to be split (--shard), into {count}, or not at all; "
                f"{path} holds {others[0]!r}. Split it as before, or give another study."
            )


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A capture that is known to be possible."""

    path: Path
    """The study."""
    data_sets: Sequence[str]
    """Names of the models' data sets, of each of which one shard is recorded."""
    sources: Mapping[str, str | Path]
    """Entry → what its model is named by, in the order in which they are recorded."""
    asked: QuestionSet
    requests: Mapping[str, Request]
    """Entry → what is kept of it."""
    running: Running
    batch_size: int
    force_lens: bool
    convert_profile: bool
    progress: Progress | None

    def record(self, *, overwrite: bool, say: Callable[[str], None]) -> None:
        """Record all entries that are not whole yet."""
        states = self._progressed(overwrite=overwrite)
        open_ones = [name for name in self.sources if states[name].n_samples < len(self.asked)]
        self._require_size(open_ones, states, say)
        with made_or_removed(self.path):
            for name in self.sources:
                if name in open_ones:
                    self._record_entry(name, replace_old=states[name].replace, overwrite=overwrite)
                keep_image_names(open_study(self.path), name, self.asked.names)
        self._plan(open_study(self.path))

    def _progressed(self, *, overwrite: bool) -> dict[str, Progressed]:
        """How far each entry has come, by its name; what a killed capture left is gone."""
        if not (self.path / STUDY).exists():
            return {name: Progressed() for name in self.sources}
        study = open_study(self.path)
        study.sweep()
        return {
            name: progressed(study, name, source, self.requests[name], self.running, overwrite=overwrite)
            for name, source in self.sources.items()
        }

    def _require_size(
        self, names: Sequence[str], states: Mapping[str, Progressed], say: Callable[[str], None]
    ) -> None:
        """Say how much will be written of each model, and refuse what the disk cannot hold, or the models do not
        have."""
        total, photographs = 0, self.asked.image_bytes
        for name in names:
            (config, found), request = require_loadable(self.sources[name], self.running), self.requests[name]
            if config is None:
                choose(request.sites, request.layers, found.info.n_layer, ATTENTION_SITES)
                say(f"{name}, {request.store}: how much it takes is known when its images have become tokens")
                continue
            sites, layers = choose(
                request.sites,
                request.layers,
                config.llm.n_layer,
                sites_of(config.llm),
                config.llm.mixer_layers,
            )
            size = CaptureSize(
                images=len(self.asked) - states[name].n_samples,
                each=bytes_of_each(request.store, config, sites, request.decoded or layers, request.dtype),
                photographs=photographs,
            )
            total, photographs = total + size.total, 0
            say(f"{name}, {request.store}: {size.to_text()}")
        require_disk(self.path, total)

    def _plan(self, study: Study) -> None:
        """Note in the study what is to be there: the entries, and the other shards of their data sets."""
        parts = self.asked.of_parts
        others = {
            shard_name(name, number, len(parts)): count
            for name in self.data_sets
            for number, count in enumerate(parts, start=1)
        }
        study.plan(dict.fromkeys(self.sources, len(self.asked)), others=others)

    def _record_entry(self, name: str, *, replace_old: bool, overwrite: bool) -> None:
        """Ask a model what its entry does not hold yet; the model is freed before the next."""
        model = load(self.sources[name], self.running, self.progress)
        # Made no earlier: a model that cannot be loaded leaves no empty study.
        study = open_study(self.path, create=True)
        marks = named_marks(self.sources[name], self.running)
        replace_old = replace_old or begun_otherwise(study, name, marks, overwrite=overwrite)
        self._plan(study)
        request = self.requests[name]
        with study.writer(name, resume=not replace_old, overwrite=replace_old) as writer:
            begun = writer.n_samples
            for trace, decoding in ask(
                model,
                self.asked.questions,
                request.lens,
                asking=request.asking,
                sites=request.sites,
                layers=request.layers,
                tokens=tokens_of(request.store),
                decoded=request.decoded,
                dtype=request.dtype if request.store == "states" else torch.float32,
                first=begun,
                batch_size=self.batch_size,
                force_lens=self.force_lens,
                convert_profile=self.convert_profile,
                progress=self.progress,
            ):
                before = writer.n_samples
                request.require_unchanged(trace, before, self.asked.names)
                writer.append_batch(*kept(request.store, trace, decoding, request.dtype))
                if before == begun:  # the entry is there now, and an interruption leaves it with them
                    keep_image_names(study, name, self.asked.names)
                    keep_marks(study, name, marks)
        del model
        free(self.sources[name])


def _entry_names(models: Sequence[str | Path]) -> tuple[str, ...]:
    entries = tuple(map(entry_name, models))
    if taken := [name for name, count in Counter(entries).items() if count > 1]:
        raise InputError(
            f"expected models with different names, one entry each, got several called {', '.join(taken)}; capture "
            "them into studies of their own, or rename a run directory."
        )
    return entries


def _requests(
    request: Request,
    sources: Mapping[str, str | Path],
    lenses: Sequence[str | Path | Lens],
    running: Running,
    *,
    force: bool,
    fit_on: Path | None,
    progress: Progress | None,
) -> dict[str, Request]:
    """What is kept of each entry: for maps, with the lens of its model. All is looked at before a lens is fitted.

    Raises:
        LensError: there is no lens, or it belongs to another model.
        InputError: it has no such layer.
    """
    wanted = one_each(lenses, len(sources))
    if request.store != "maps":
        return dict.fromkeys(sources, request)
    described = [require_loadable(source, running) for source in sources.values()]
    chosen = lenses_for(wanted, list(sources.values()), described, running, fit_on=fit_on, force=force)
    requests = [
        _with_lens(request, model, lens, force=force)
        for (_, model), lens in zip(described, chosen, strict=True)
    ]
    ready = fit_awaited(chosen, running, fit_on, progress)
    return {name: replace(each, lens=lens) for name, each, lens in zip(sources, requests, ready, strict=True)}


def _with_lens(request: Request, model: FoundModel | LoadedModel, lens: Lens, *, force: bool) -> Request:
    """The request for maps of one model: what its lens reads for the layers that are to be decoded.

    Raises:
        LensError: it belongs to another model.
        InputError: it has no such layer.
    """
    depth = model.info.n_layer
    asked = numbered_layers(request.layers, depth, every=lens.default_layers)
    if unfit := [layer for layer in asked if layer not in lens.info.layers]:
        raise InputError(
            f"expected layers that the {lens.info.kind} lens of {lens.info.model_name} decodes "
            f"({', '.join(map(str, lens.info.layers))}), got {', '.join(map(str, unfit))}."
        )
    sites, layers = recording_for(lens, asked)
    unfit = mismatch(lens, model=model.info, sites=sites)
    require_fit(unfit, force=force)
    # A lens of a deeper model may be forced on this one.
    return replace(
        request,
        sites=sites,
        layers=tuple(layer for layer in layers if layer < depth),
        lens=lens,
        decoded=tuple(layer for layer in asked if layer < depth),
    )
