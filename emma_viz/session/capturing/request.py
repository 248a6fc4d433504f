"""What a capture asks for, and how far an entry of a study has come with it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from emma_viz.capture import Trace
from emma_viz.capture.sites import Layers, choose
from emma_viz.checkpoints import inspect
from emma_viz.data.provenance import dump_json
from emma_viz.errors import StudyError
from emma_viz.files.json_door import parse_json
from emma_viz.lens import Lens
from emma_viz.models.attention_sites import ALL_SITES
from emma_viz.session.capturing.marks import begun_otherwise
from emma_viz.session.capturing.stores import beside_of
from emma_viz.session.loading import named_marks, require_loadable
from emma_viz.session.options import STORES, Asking, Running, Store
from emma_viz.study import Study


@dataclass(frozen=True, kw_only=True)
class Request:
    """All that decides what a model's entry holds, beside the model."""

    image_hashes: tuple[str, ...]
    """`image_hash` of the image of each question, in order."""
    prompts: tuple[str, ...]
    """The prompt of each question."""
    sites: tuple[str, ...]
    """Hook sites."""
    layers: Layers
    """Layers, or all."""
    dtype: torch.dtype
    """Of what is kept."""
    asking: Asking
    """How answers are drawn; its prompt is not used."""
    store: Store = "states"
    """What is kept of the states."""
    lens: Lens | None = None
    """What decodes maps."""
    decoded: tuple[int, ...] | None = None
    """Layers that the lens decodes."""

    def differences(self, study: Study, entry: str) -> Iterator[str]:
        """What the batches of an entry were recorded with otherwise, one phrase each: what is there, and what is asked.

        Raises:
            SiteError: a site or layer does not exist in the entry's model.
        """
        traces = study.traces(entry)
        first = next(traces)
        sites, layers = choose(
            self.sites, self.layers, first.model.n_layer, ALL_SITES, first.model.mixer_layers
        )
        yield from _differ("sites", first.sites, sites)
        yield from _differ("layers", first.layers, layers)
        yield from self._of_store(study, entry, first)
        sampling, asking = first.sampling, self.asking
        drawn = (asking.max_new_tokens, asking.temperature, asking.top_p)
        found = sampling and (sampling.max_new_tokens, sampling.temperature, sampling.top_p)
        yield from _differ("longest answer, temperature and top-p", found, drawn)
        if asking.temperature and sampling:
            yield from _differ("seed", sampling.seed, asking.seed)
        hashes, prompts = list(first.image_hashes), list(first.prompts)
        for trace in traces:
            hashes += trace.image_hashes
            prompts += trace.prompts
        if tuple(prompts) != self.prompts[: len(prompts)]:
            said = [" | ".join(dict.fromkeys(many)) for many in (prompts, self.prompts)]
            yield from _differ("prompt", *said) or ["prompts (the same, for other images)"]
        if tuple(hashes) != self.image_hashes[: len(hashes)]:
            digests = [tuple(each[:8] for each in many) for many in (hashes, self.image_hashes)]
            yield from _differ("images", *digests)

    def _of_store(self, study: Study, entry: str, first: Trace) -> Iterator[str]:
        if self.store == "states":
            yield from _differ("type of states", first[first.sites[0]].dtype, self.dtype)
            return
        arrays, meta = next(study.batch_arrays(entry, *beside_of(self.store)))
        found = {getattr(torch, array.dtype.name, array.dtype) for array in arrays.values()}
        yield from _differ(f"type of {self.store}", " ".join(map(str, found)), str(self.dtype))
        if self.lens is not None and meta.get("lens") != parse_json(
            dump_json(self.lens.info.to_json()).encode(), where="the lens", error=StudyError
        ):
            there = meta.get("lens")
            kind = there.get("kind") if isinstance(there, dict) else None
            yield f"lens (another {kind} one there, a {self.lens.info.kind} one asked for)"

    def require_unchanged(self, trace: Trace, first: int, names: Sequence[str]) -> None:
        """Refuse a batch whose images are not those that the capture began with.

        Raises:
            StudyError: a file was changed meanwhile.
        """
        for index, digest in enumerate(trace.image_hashes, start=first):
            if digest != self.image_hashes[index]:
                raise StudyError(f"{names[index]} was changed while it was recorded; capture it again.")


@dataclass(frozen=True, kw_only=True)
class Progressed:
    """How far an entry has come."""

    n_samples: int = 0
    """Samples that stay."""
    replace: bool = False
    """Whether what is there goes."""


def progressed(
    study: Study, name: str, source: str | Path, request: Request, running: Running, *, overwrite: bool
) -> Progressed:
    """Look at the entry of a model, without running it.

    Raises:
        StudyError: it was recorded otherwise, or with another image encoder or tokenizer, and `overwrite` is False.
    """
    if name not in study:
        return Progressed()
    entry = study.entry(name)
    there = next(
        (each for each in STORES if (each == "states", beside_of(each)) == (entry.has_states, entry.beside)),
        None,
    )
    if not entry.samples or there != request.store:
        what = there if entry.samples and there else f"{entry.kind} without states"
        differ = _differ("what it holds", what, request.store)
    else:
        first = next(study.traces(name))
        differ = list(request.differences(study, name))
        mark = _mark(source, running)
        if mark is not None:
            differ += _differ("fingerprint of the model", first.model.fingerprint, mark)
        dtype = running.dtype
        if dtype is None and not differ and entry.n_samples < len(request.image_hashes):
            dtype = require_loadable(source, running)[1].info.dtype  # which follows the file and the device
        if dtype is not None:
            differ += _differ("type of the weights", first.model.dtype, dtype)
        if first.model.part or running.part:
            asked = require_loadable(source, running)[1].info.part
            differ += _differ("image tokens", first.model.part or "tiles", asked or "tiles")
        if entry.kind != "stream" and entry.n_samples < len(request.image_hashes):
            differ += _differ("number of images", entry.n_samples, len(request.image_hashes))
    if not differ:
        marks = named_marks(source, running)
        replaced = begun_otherwise(study, name, marks, overwrite=overwrite)
        return Progressed(replace=True) if replaced else Progressed(n_samples=entry.n_samples)
    if not overwrite:
        raise StudyError(
            f"{study.path} already has an entry {name!r} that was recorded otherwise: {'; '.join(differ)}. Give the "
            "same options to go on with it, another study, or --overwrite to replace it."
        )
    return Progressed(replace=True)


def _mark(source: str | Path, running: Running) -> str | None:
    """The fingerprint that a capture of a model would have; that of a projector alone has its language model's part."""
    if running.llm_source is None:
        return inspect(source).fingerprint
    return require_loadable(source, running)[1].info.fingerprint


def _differ(what: str, there: object, asked: object) -> list[str]:
    return [] if there == asked else [f"{what} ({_short(there)} there, {_short(asked)} asked for)"]


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return repr(text) if len(text) <= 120 else repr(text[:120] + "…")
