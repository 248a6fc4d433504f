"""Studies that were captured: decode them without the models, a batch at a time."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, overload

from emma_viz.capture.trace import Trace
from emma_viz.checkpoints import FoundModel
from emma_viz.checkpoints.sources import local_folder
from emma_viz.data.provenance import dump_json
from emma_viz.errors import InputError, StudyError
from emma_viz.files.json_door import parse_json
from emma_viz.files.room import require_writable
from emma_viz.files.rows import rows
from emma_viz.lens import Lens
from emma_viz.maps import Decoding, LayerScore, decode
from emma_viz.maps.apply import plan_decoding
from emma_viz.maps.decoding_note import DECODING_SCHEMA
from emma_viz.maps.scores import measure_batches
from emma_viz.progress import Progress
from emma_viz.session.capturing.stores import DECODING, require_disk
from emma_viz.session.loading import lens_of, one_each
from emma_viz.session.options import DEFAULT_LENSES
from emma_viz.session.studies import HeldDecodings, chosen_entries, held_batches
from emma_viz.study import Study, open_study
from emma_viz.study.derived import DerivedWriter

_OF_WHOLE = re.compile(rf"{DECODING}(-\d+)?")
"""Names of decoded pixels that are kept of a whole entry."""


def decode_study(
    path: Path,
    *,
    entries: Sequence[str] | None = None,
    lenses: Sequence[str | Path] = DEFAULT_LENSES,
    force_lens: bool = False,
    progress: Progress | None = None,
) -> "StoredDecodings":
    """Turn the states of a study into pixels, and keep them beside the states, a batch at a time.

    All lenses, and the disk's room, are looked at first. What was decoded by the same lens stays, so that what was
    interrupted goes on where it stopped.

    Args:
        path: the study's folder.
        entries: which; all that hold a trace when None.
        lenses: one for all entries, or one each: a kind that ships with the model, or a lens file.
        force_lens: use a lens that belongs to another model; every picture then says so.
        progress: called as progress(done, total, what), once a batch.

    Returns:
        One decoding an entry; where images became grids of several shapes, one for each shape.

    Raises:
        StudyError: an entry does not exist, or there is none, or the disk has no room.
        LensError: there is no lens, or it belongs to another model.
    """
    study = open_study(path)
    require_writable(path, folder=True, error=StudyError)
    study.sweep()
    chosen = chosen_entries(study, entries)
    parts = {name: study.parts_of(name) for name in chosen}
    if stateless := [
        name for name, own in parts.items() if not all(study.entry(each).has_states for each in own)
    ]:
        raise StudyError(
            f"{path} holds no states of {', '.join(map(repr, stateless))} to decode: it was captured with --store maps "
            "(`emma-viz compare` shows those) or pooled. Name others with --entries, or capture the states."
        )
    wanted = dict(zip(chosen, one_each(lenses, len(chosen)), strict=True))
    work = {}
    for name, own in parts.items():
        # Not kept until it is needed: those of many entries are large together.
        lens = _lens(study, name, wanted[name], force=force_lens)
        work[name] = [_Part.of(study, part, lens, force=force_lens) for part in own]
    every = [part for own in work.values() for part in own]
    require_disk(
        path,
        sum(part.n_bytes for part in every),
        mend="Decode fewer of its entries (--entries), make room, or capture with --store maps, which keeps no states.",
    )
    total, done = sum(len(part.batches) for part in every), 0

    def tell(part: str) -> None:
        nonlocal done
        if progress is not None:
            progress(done, total, f"decoding {part}")
        done += 1

    for name, own in work.items():
        lens = (
            _lens(study, name, wanted[name], force=force_lens) if any(each.batches for each in own) else None
        )
        for part in own:
            part.decode(study, lens, force=force_lens, tell=tell)
    return StoredDecodings(path, chosen)


def _lens(study: Study, entry: str, wanted: str | Path | Lens, *, force: bool) -> Lens:
    """The lens that a user named for an entry.

    Raises:
        LensError: there is none, or it belongs to other weights.
    """
    info = next(study.traces(entry)).model
    model = FoundModel(info=info, folder=local_folder(info.source, revision=info.revision))
    return lens_of(wanted, model, force=force)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """An entry of a study, and which of its batches are not decoded by the lens that is wanted."""

    name: str
    batches: frozenset[int]
    """Their numbers."""
    n_bytes: int
    """What their pixels take."""
    whole: bool
    """Whether the pixels are kept of the whole entry, as the explorer keeps them, and are those that are wanted."""

    @classmethod
    def of(cls, study: Study, part: str, lens: Lens, *, force: bool) -> "_Part":
        """Look at an entry.

        Raises:
            LensError: the lens does not fit what was recorded.
        """
        said = parse_json(dump_json(lens.info.to_json()).encode(), where="the lens", error=StudyError)
        whole = _is_whole(study, part, said)
        writer = DerivedWriter(study.path, part, DECODING)
        left, n_bytes = set[int](), 0
        for index, trace in enumerate(study.traces(part)):
            # Of what is decoded too: it may have been forced, and this call may not force.
            plan = plan_decoding(trace, lens, force=force)
            if not whole and not _is_of(writer.kept(index) or {}, trace, said):
                left.add(index)
                n_bytes += plan.n_bytes
        return cls(name=part, batches=frozenset(left), n_bytes=n_bytes, whole=whole)

    def decode(self, study: Study, lens: Lens | None, *, force: bool, tell: Callable[[str], None]) -> None:
        """Decode what is left, one batch at a time.

        Args:
            study: the study.
            lens: None where nothing is left.
            force: use it although it belongs to other states.
            tell: called with the name of the entry before each batch.
        """
        if self.whole:
            return
        old = tuple(each for each in study.entry(self.name).arrays if _OF_WHOLE.fullmatch(each))
        with DerivedWriter(study.path, self.name, DECODING, instead_of=old) as writer:
            for index, trace in enumerate(study.traces(self.name) if self.batches else ()):
                if index not in self.batches:
                    continue
                tell(self.name)
                assert lens is not None
                arrays, meta = decode(trace, lens, force=force).to_arrays(with_images=False)
                writer.write(index, {"patches": arrays["patches"]}, meta)  # the trace has the views already


def _is_whole(study: Study, part: str, lens: Mapping[str, Any]) -> bool:
    """Whether the pixels of an entry are kept in one, and are of that lens."""
    if DECODING not in study.entry(part).arrays:
        return False
    try:
        return all(_is_of(each.meta, each.trace, lens) for each in held_batches(study, part))
    except StudyError:  # of other images, or damaged
        return False


def _is_of(meta: Mapping[str, Any], trace: Trace, lens: Mapping[str, Any]) -> bool:
    """Whether decoded pixels are of this trace and lens, by what stands beside them."""
    return (meta.get("schema"), meta.get("lens"), meta.get("image_hashes")) == (
        DECODING_SCHEMA,
        lens,
        list(trace.image_hashes),
    )


class StoredDecodings(Sequence[Decoding]):
    """The decodings of a study, each read from the disk, whole, when it is taken; `in_batches` holds less in memory.

    Args:
        path: the study's folder.
        entries: which of its entries; all are decoded.
    """

    def __init__(self, path: Path, entries: Sequence[str]):
        self._held = [
            (held, numbers)
            for held in (HeldDecodings.of(path, [name]) for name in entries)
            for numbers in held.by_shape().values()
        ]

    def __len__(self) -> int:
        return len(self._held)

    @overload
    def __getitem__(self, index: int) -> Decoding: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Decoding, ...]: ...
    def __getitem__(self, index: int | slice) -> Decoding | tuple[Decoding, ...]:
        if isinstance(index, slice):
            return tuple(self[each] for each in range(*index.indices(len(self))))
        held, numbers = self._held[index]
        return held.comparison(numbers).decodings[0]

    def in_batches(self) -> Iterator[Iterator[Decoding]]:
        """Each decoding in as many parts as it was decoded in; one part is in memory at a time."""
        for held, numbers in self._held:
            yield held.decodings(frozenset(numbers))


def scores_table(decodings: Sequence[Decoding]) -> str:
    """Fidelity per model and layer, as text: R², PSNR in dB, SSIM, and the correlation of the maps.

    Raises:
        InputError: a decoding holds no image.
    """
    lines = [f"{'model':<20} {'layer':>9} {'R²':>7} {'PSNR dB':>8} {'SSIM':>6} {'map r':>6}"]
    stored = isinstance(decodings, StoredDecodings)
    for batches in decodings.in_batches() if stored else (iter([each]) for each in decodings):
        name, scores = _measured(batches)
        for score in scores:
            layer = "embedding" if score.layer < 0 else str(score.layer)
            numbers = f"{score.r2:>7.3f} {score.psnr:>8.2f} {score.ssim:>6.3f} {score.correlation:>6.2f}"
            lines.append(f"{name:<20} {layer:>9} {numbers}")
    return rows(lines)


def _measured(batches: Iterator[Decoding]) -> tuple[str, tuple[LayerScore, ...]]:
    """The name of the model of one decoding, and its scores."""
    first = next(batches)
    if not first:
        raise InputError(f"the decoding of {first.model.name} holds no image.")
    return first.model.name, measure_batches(chain([first], batches))
