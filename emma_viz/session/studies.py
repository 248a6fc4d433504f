"""Studies that were captured: decode and compare them without the models."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emma_viz.capture.trace import Trace
from emma_viz.checkpoints import FoundModel
from emma_viz.checkpoints.sources import local_folder
from emma_viz.errors import InputError, StudyError
from emma_viz.files.room import require_writable
from emma_viz.files.rows import rows
from emma_viz.maps import Decoding, decode, measure
from emma_viz.maps.joining import joined
from emma_viz.progress import Progress
from emma_viz.session.capturing.stores import DECODING
from emma_viz.session.comparison import Comparison
from emma_viz.session.entry_names import image_names_of_entry
from emma_viz.session.loading import lens_of, one_each
from emma_viz.session.options import DEFAULT_LENSES
from emma_viz.study import Study, open_study
from emma_viz.study.shards import data_set


def decode_study(
    path: Path,
    *,
    entries: Sequence[str] | None = None,
    lenses: Sequence[str | Path] = DEFAULT_LENSES,
    force_lens: bool = False,
    progress: Progress | None = None,
) -> tuple[Decoding, ...]:
    """Turn the states of a study into pixels, and keep them beside the states.

    Args:
        path: the study's folder.
        entries: which; all that hold a trace when None.
        lenses: one for all entries, or one each: a kind that ships with the model, or a lens file.
        force_lens: use a lens that belongs to another model; every picture then says so.
        progress: called as progress(done, total, what), once a part of an entry.

    Raises:
        StudyError: an entry does not exist, or there is none.
        LensError: there is no lens, or it belongs to another model.
    """
    study = open_study(path)
    require_writable(path, folder=True, error=StudyError)
    study.sweep()
    chosen = _entries(study, entries)
    parts = {name: study.parts_of(name) for name in chosen}
    if stateless := [
        name for name, own in parts.items() if not all(study.entry(each).has_states for each in own)
    ]:
        raise StudyError(
            f"{path} holds no states of {', '.join(map(repr, stateless))} to decode: it was captured with --store maps "
            "(`emma-viz compare` shows those) or pooled. Name others with --entries, or capture the states."
        )
    wanted = dict(zip(chosen, one_each(lenses, len(chosen)), strict=True))
    total = sum(map(len, parts.values()))
    work = [(name, part) for name, own in parts.items() for part in own]
    found: dict[str, list[Decoding]] = {name: [] for name in chosen}
    for done, (name, part) in enumerate(work):
        if progress:
            progress(done, total, f"decoding {part}")
        trace = study.trace(part)
        folder = local_folder(trace.model.source, revision=trace.model.revision)
        model = FoundModel(info=trace.model, folder=folder)
        decoding = decode(trace, lens_of(wanted[name], model, force=force_lens), force=force_lens)
        arrays, meta = decoding.to_arrays(with_images=False)
        study.save_arrays(part, DECODING, arrays, meta, overwrite=True)
        found[name].append(decoding)
    return tuple(joined(decodings, images=study.trace(name).images) for name, decodings in found.items())


def compare_study(path: Path, *, entries: Sequence[str] | None = None) -> Comparison:
    """The decodings that a study holds.

    Raises:
        StudyError: an entry does not exist, or was not decoded yet.
        InputError: the entries are of different images.
    """
    study = open_study(path)
    chosen = _entries(study, entries)
    undecoded = [entry for entry in chosen if not _is_decoded(study, entry)]
    if undecoded:
        raise StudyError(
            f"{path} holds no decoded pixels yet of {', '.join(map(repr, undecoded))}; run `emma-viz decode {path}` "
            "first."
        )
    decodings, names = [], ()
    for entry in chosen:
        decodings.append(_decoding(study, entry))
        parts = study.parts_of(entry)
        names = tuple(name for part in parts for name in image_names_of_entry(study, part)) or names
    return Comparison(decodings=tuple(decodings), image_names=names)


def compared_entries(path: Path) -> tuple[str, ...]:
    """The data sets of a study that `compare_study` takes where none is named, in its order.

    Raises:
        StudyError: there is no such study, it is not finished, or holds none.
    """
    return tuple(_entries(open_study(path), None))


def decoded_sample(path: Path, entry: str, sample: int) -> tuple[Decoding, str]:
    """The decoding of one question of a study, and the name of its image.

    Raises:
        StudyError: there is no such study, entry or sample, or it was not decoded yet.
    """
    found = compare_study(path, entries=[entry])
    (decoding,) = found.decodings
    if not 0 <= sample < len(decoding.image_hashes):
        raise StudyError(
            f"{path}: {entry!r} holds {len(decoding.image_hashes)} questions, and no number {sample}."
        )
    return decoding.select(samples=[sample]), found.image_names[sample]


def _is_decoded(study: Study, name: str) -> bool:
    parts = [study.entry(part) for part in study.parts_of(name)]
    return all(DECODING in part.arrays or DECODING in part.beside for part in parts)


def _decoding(study: Study, name: str) -> Decoding:
    """The decoded pixels of a data set, in one: those of its batches, or, made later, those of each entry."""
    found: list[Decoding] = []
    for part in study.parts_of(name):
        if DECODING in study.entry(part).arrays:
            arrays = [study.load_arrays(part, DECODING)]
            traces = [study.trace(part)]
        else:
            arrays, traces = study.batch_arrays(part, DECODING), study.traces(part)
        found += [_checked(study, part, trace, *each) for trace, each in zip(traces, arrays, strict=True)]
    return joined(found, images=study.trace(name).images)


def _checked(study: Study, entry: str, trace: Trace, arrays: dict[str, np.ndarray], meta: dict) -> Decoding:
    """The decoded pixels of a trace, which is held to be that of the same images."""
    try:
        decoding = Decoding.from_arrays({"views": trace.views, **arrays}, meta, images=trace.images)
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
    there = study.entries
    held = dict.fromkeys(data_set(name) for name, entry in there.items() if entry.samples)
    found = list(wanted or held)
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
        study.parts_of(name)  # a wrong name is an error before anything is done
    return found


def scores_table(decodings: Sequence[Decoding]) -> str:
    """Fidelity per model and layer, as text: R², PSNR in dB, SSIM, and the correlation of the maps.

    Raises:
        InputError: a decoding holds no image.
    """
    lines = [f"{'model':<20} {'layer':>9} {'R²':>7} {'PSNR dB':>8} {'SSIM':>6} {'map r':>6}"]
    for decoding in decodings:
        if not decoding:
            raise InputError(f"the decoding of {decoding.model.name} holds no image.")
        for score in measure(decoding):
            layer = "embedding" if score.layer < 0 else str(score.layer)
            numbers = f"{score.r2:>7.3f} {score.psnr:>8.2f} {score.ssim:>6.3f} {score.correlation:>6.2f}"
            lines.append(f"{decoding.model.name:<20} {layer:>9} {numbers}")
    return rows(lines)
