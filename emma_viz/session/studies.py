"""Studies: capture once with the models, then decode and compare without them."""

import gc
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emma_viz.capture.sites import Layers, choose
from emma_viz.checkpoints import FoundModel, LoadedModel
from emma_viz.checkpoints.sources import local_folder, resolve
from emma_viz.data import image_hash, read_image
from emma_viz.errors import InputError, StudyError
from emma_viz.files.room import require_writable
from emma_viz.files.schema import shape
from emma_viz.maps import Decoding, decode, measure
from emma_viz.session.comparison import (
    Comparison,
    Progress,
    lens_of,
    load,
    name_images,
    one_each,
    require_loadable,
)
from emma_viz.session.options import Asking, Running
from emma_viz.session.request import Progressed, Request, progressed
from emma_viz.session.road import BATCH, Question, ask
from emma_viz.study import Study, StudyWriter, open_study
from emma_viz.study.study import STUDY, made_or_removed, require_room

NAMES = "names"
"""Arrays of an entry whose description holds what its images are called."""
DECODING = "decoding"
"""Arrays of an entry that hold its decoded pixels."""


def capture(
    images: Any,
    models: Sequence[str | Path],
    path: Path,
    *,
    sites: Sequence[str] = ("resid_post",),
    layers: Layers = "all",
    states_dtype: str = "float32",
    overwrite: bool = False,
    batch_size: int = BATCH,
    asking: Asking = Asking(),
    running: Running = Running(),
    convert_profile: bool = False,
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Record each model on the images, one entry of a study a model, a batch at a time.

    A capture that was interrupted goes on where it stopped when it is asked for again: what is there and was recorded
    with the same options stays. Batches of the same size then end in the same bytes, but for the times.

    Args:
        overwrite: replace entries that were recorded with other options.
        batch_size: images that go through a model, and are held in memory, at a time.
        convert_profile: convert images with a colour profile to sRGB.

    Returns:
        The names of the entries: those of the models.

    Raises:
        StudyError: the study cannot be written, or has an entry of that name that was recorded otherwise, and
            `overwrite` is False.
        EmmaVizError: a model cannot be loaded or run; what was recorded before stays, and an empty study is not made.
        CheckpointError: there is no such model; nothing was run.
        InputError: an image cannot be used, or two models would have one entry.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}.")
    sources, names = name_images(images)
    request = Request(
        image_hashes=tuple(
            image_hash(read_image(source, convert_profile=convert_profile)) for source in sources
        ),
        sites=tuple(sites),
        layers=layers,
        states_dtype=getattr(torch, states_dtype),
        asking=asking,
    )
    for source in models:
        resolve(source)
    entries = tuple(map(entry_name, models))
    if taken := [name for name, count in Counter(entries).items() if count > 1]:
        raise InputError(
            f"expected models with different names, one entry each, got several called {', '.join(taken)}; capture "
            "them into studies of their own, or rename a run directory."
        )
    require_room(path)
    states = _progressed(path, dict(zip(entries, models, strict=True)), request, running, overwrite=overwrite)
    for name, source in zip(entries, models, strict=True):
        if states[name].n_samples < len(sources):
            choose(sites, layers, require_loadable(source, running)[0].llm.n_layer)
    questions = [Question(image=source, prompt=asking.prompt) for source in sources]
    with made_or_removed(path):
        for name, source in zip(entries, models, strict=True):
            if states[name].n_samples < len(sources):
                model = load(source, running, progress)
                # Made no earlier: a model that cannot be loaded leaves no empty study.
                study = open_study(path, create=True)
                study.plan(dict.fromkeys(entries, len(sources)))
                writer = study.writer(name, resume=not states[name].replace, overwrite=states[name].replace)
                _record(
                    model,
                    questions,
                    request,
                    writer,
                    names,
                    batch_size=batch_size,
                    convert_profile=convert_profile,
                    progress=progress,
                )
                del model
                gc.collect()
            _name_images(open_study(path), name, names)
    open_study(path).plan(dict.fromkeys(entries, len(sources)))
    return entries


def _progressed(
    path: Path, models: Mapping[str, str | Path], request: Request, running: Running, *, overwrite: bool
) -> dict[str, Progressed]:
    """How far each entry has come, by its name; what a killed capture left is gone."""
    if not (path / STUDY).exists():
        return {name: Progressed() for name in models}
    study = open_study(path)
    study.sweep()
    return {
        name: progressed(study, name, source, request, running, overwrite=overwrite)
        for name, source in models.items()
    }


def _record(
    model: LoadedModel,
    questions: Sequence[Question],
    request: Request,
    writer: StudyWriter,
    names: Sequence[str],
    *,
    batch_size: int,
    convert_profile: bool,
    progress: Progress | None,
) -> None:
    """Ask a model what its entry does not hold yet."""
    with writer:
        for trace, _ in ask(
            model,
            questions,
            asking=request.asking,
            sites=request.sites,
            layers=request.layers,
            dtype=request.states_dtype,
            first=writer.n_samples,
            batch_size=batch_size,
            convert_profile=convert_profile,
            progress=progress,
        ):
            request.require_unchanged(trace, writer.n_samples, names)
            writer.append_batch(trace)


def _name_images(study: Study, entry: str, names: Sequence[str]) -> None:
    """Keep what the images are called, if it is not kept yet."""
    if NAMES in study.entry(entry).arrays and _image_names(study, entry) == tuple(names):
        return
    study.save_arrays(entry, NAMES, {}, {"images": list(names)}, overwrite=True)


def _image_names(study: Study, entry: str) -> tuple[str, ...]:
    """What the images of an entry are called; nothing where it was not kept.

    Raises:
        StudyError: the names were changed or damaged.
    """
    if NAMES not in study.entry(entry).arrays:
        return ()
    _, meta = study.load_arrays(entry, NAMES)
    where = f"{study.path}, {NAMES} of the entry {entry!r}"
    return shape(meta, _Names, where=where, error=StudyError).images


@dataclass(frozen=True, kw_only=True)
class _Names:
    """What is kept beside a trace."""

    images: tuple[str, ...]


def entry_name(model: str | Path) -> str:
    """What the entry of a model is called: its bundled name or hub id, or the last part of its path."""
    return Path(model).name if Path(model).exists() else str(model)


def decode_study(
    path: Path,
    *,
    entries: Sequence[str] | None = None,
    lenses: Sequence[str | Path] = ("ridge",),
    force_lens: bool = False,
    progress: Progress | None = None,
) -> tuple[Decoding, ...]:
    """Turn the states of a study into pixels, and keep them beside the states.

    Args:
        entries: which; all that hold a trace when None.
        lenses: one for all entries, or one each: a kind that ships with the model, or a lens file.

    Raises:
        StudyError: an entry does not exist, or there is none.
        LensError: there is no lens, or it belongs to another model.
    """
    study = open_study(path)
    require_writable(path, folder=True, error=StudyError)
    study.sweep()
    chosen = _entries(study, entries)
    decodings = []
    for done, (entry, wanted) in enumerate(zip(chosen, one_each(lenses, len(chosen)), strict=True)):
        if progress:
            progress(done, len(chosen), f"decoding {entry}")
        trace = study.trace(entry)
        folder = local_folder(trace.model.source, revision=trace.model.revision)
        model = FoundModel(info=trace.model, folder=folder)
        decoding = decode(trace, lens_of(wanted, model, force=force_lens), force=force_lens)
        arrays, meta = decoding.to_arrays(with_images=False)
        study.save_arrays(entry, DECODING, arrays, meta, overwrite=True)
        decodings.append(decoding)
    return tuple(decodings)


def compare_study(path: Path, *, entries: Sequence[str] | None = None) -> Comparison:
    """The decodings that a study holds.

    Raises:
        StudyError: an entry does not exist, or was not decoded yet.
        InputError: the entries are of different images.
    """
    study = open_study(path)
    chosen = _entries(study, entries)
    undecoded = [entry for entry in chosen if DECODING not in study.entry(entry).arrays]
    if undecoded:
        raise StudyError(
            f"{path} holds no decoded pixels yet of {', '.join(map(repr, undecoded))}; run `emma-viz decode {path}` "
            "first."
        )
    decodings, names = [], ()
    for entry in chosen:
        decodings.append(_decoding(study, entry))
        names = _image_names(study, entry) or names
    return Comparison(decodings=tuple(decodings), image_names=names)


def _decoding(study: Study, entry: str) -> Decoding:
    arrays, meta = study.load_arrays(entry, DECODING)
    trace = study.trace(entry)
    try:
        decoding = Decoding.from_arrays(arrays, meta, images=trace.images)
        kept = ("image_hashes", "model", "geometry", "prompts", "answers")
        same = all(getattr(decoding, name) == getattr(trace, name) for name in kept)
        same = same and np.array_equal(decoding.views, trace.views)
    except InputError as error:
        if meta.get("image_hashes") == list(trace.image_hashes):
            raise StudyError(f"{study.path}, decoded pixels of {entry!r}: {error}") from error
        same = False
    if not same:
        raise StudyError(
            f"The decoded pixels of {entry!r} in {study.path} are of other images than its trace, which holds "
            f"{len(trace)}; run `emma-viz decode {study.path}` again."
        )
    return decoding


def _entries(study: Study, wanted: Sequence[str] | None) -> list[str]:
    found = list(wanted) if wanted else [name for name, entry in study.entries.items() if entry.samples]
    if not wanted and (missing := study.missing):
        lacks = ", ".join(f"{name!r} ({have} of {want} images)" for name, (have, want) in missing.items())
        raise StudyError(
            f"{study.path} is not finished: it lacks {lacks}. Run the same `emma-viz capture` command again, "
            "which goes on where it stopped, or name what to use with --entries."
        )
    if not found:
        raise StudyError(
            f"{study.path} holds no trace; add one with `emma-viz capture IMAGE … --out {study.path}`."
        )
    for name in found:
        study.entry(name)  # a wrong name is an error before anything is done
    return found


def scores_table(decodings: Sequence[Decoding]) -> str:
    """Fidelity per model and layer, as text: R², PSNR, SSIM, and the correlation of the maps."""
    lines = [f"{'model':<20} {'layer':>9} {'R²':>7} {'PSNR dB':>8} {'SSIM':>6} {'map r':>6}"]
    for decoding in decodings:
        if not decoding:
            raise InputError(f"the decoding of {decoding.model.name} holds no image.")
        for score in measure(decoding):
            layer = "embedding" if score.layer < 0 else str(score.layer)
            numbers = f"{score.r2:>7.3f} {score.psnr:>8.2f} {score.ssim:>6.3f} {score.correlation:>6.2f}"
            lines.append(f"{decoding.model.name:<20} {layer:>9} {numbers}")
    return "\n".join(lines)
