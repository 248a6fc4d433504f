"""Studies: capture once with the models, then decode and compare without them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from emma_viz.capture import Study, open_study
from emma_viz.capture.sites import Layers, choose
from emma_viz.capture.study import STUDY, require_room
from emma_viz.checkpoints.sources import local_folder, resolve
from emma_viz.errors import InputError, StudyError
from emma_viz.files.room import require_writable
from emma_viz.lens import Decoding, decode
from emma_viz.metrics import measure
from emma_viz.session.comparison import (
    Comparison,
    Progress,
    lens_of,
    load,
    one_each,
    read_images,
    record_for,
    require_loadable,
)
from emma_viz.session.options import Asking, Running

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
    asking: Asking = Asking(),
    running: Running = Running(),
    convert_profile: bool = False,
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Record each model on the images, one entry of a study a model.

    Returns:
        The names of the entries: those of the models.

    Raises:
        StudyError: the study cannot be written, or has an entry of that name and `overwrite` is False.
        EmmaVizError: a model cannot be loaded or run; entries of models before it stay, and an empty study is not made.
        CheckpointError: there is no such model; nothing was run.
        InputError: an image cannot be used, or two models would have one entry.
    """
    pictures, names = read_images(images, convert_profile=convert_profile)
    for source in models:
        resolve(source)
    taken = [name for name, count in Counter(map(entry_name, models)).items() if count > 1]
    if taken:
        raise InputError(
            f"expected models with different names, one entry each, got several called {', '.join(taken)}; capture "
            "them into studies of their own, or rename a run directory."
        )
    require_room(path)
    old = open_study(path) if (path / STUDY).exists() else ()
    if not overwrite and (taken := [str(model) for model in models if entry_name(model) in old]):
        raise StudyError(
            f"{path} already has entries of {', '.join(taken)}; pass --overwrite to replace them."
        )
    for source in models:
        choose(sites, layers, require_loadable(source, running).llm.n_layer)
    entries = []
    for source in models:
        model = load(source, running, progress)
        trace = record_for(
            model,
            pictures,
            asking,
            sites=sites,
            layers=layers,
            dtype=getattr(torch, states_dtype),
            progress=progress,
        )
        del model
        # Made no earlier: a run that fails leaves no empty study.
        study = open_study(path, create=True)
        entry = study.add_trace(trace, entry_name(source), overwrite=overwrite)
        study.save_arrays(entry, NAMES, {}, {"images": list(names)}, overwrite=overwrite)
        entries.append(entry)
    return tuple(entries)


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
    chosen = _entries(study, entries)
    decodings = []
    for done, (entry, wanted) in enumerate(zip(chosen, one_each(lenses, len(chosen)), strict=True)):
        if progress:
            progress(done, len(chosen), f"decoding {entry}")
        trace = study.trace(entry)
        place = local_folder(trace.model.source, revision=trace.model.revision) or trace.model.source
        decoding = decode(trace, lens_of(wanted, place, force=force_lens), force=force_lens)
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
    decodings, names = [], ()
    for entry in _entries(study, entries):
        if DECODING not in study.entry(entry).arrays:
            raise StudyError(
                f"the entry {entry!r} of {path} holds no decoded pixels yet; run `emma-viz decode {path}` first."
            )
        arrays, meta = study.load_arrays(entry, DECODING)
        decodings.append(Decoding.from_arrays(arrays, meta, images=study.trace(entry).images))
        if NAMES in study.entry(entry).arrays:
            names = tuple(study.load_arrays(entry, NAMES)[1]["images"])
    return Comparison(decodings=tuple(decodings), image_names=names)


def _entries(study: Study, wanted: Sequence[str] | None) -> list[str]:
    found = list(wanted) if wanted else [name for name, entry in study.entries.items() if entry.samples]
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
