"""A lens on a trace: from recorded states to a Decoding."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from emma_viz.capture.trace import Trace
from emma_viz.data.geometry import true_patches
from emma_viz.errors import InputError, LensError, LensMismatchError
from emma_viz.lens.fitting.states import image_states, require_patches_of_trace
from emma_viz.lens.info import require_fit
from emma_viz.lens.protocol import Lens, mismatch, pictures_of
from emma_viz.maps.decoding import Decoding
from emma_viz.shapes import CHANNELS

_AT_ONCE = 8
"""Samples that go through a lens together: a decoder works with many times what it gives."""


@dataclass(frozen=True, kw_only=True)
class DecodingPlan:
    """What a lens makes of a trace, before it does."""

    layers: tuple[int, ...]
    """To decode."""
    fitted: tuple[int, ...]
    """Of each the layer whose lens decodes it."""
    reads: tuple[tuple[tuple[str, int], ...], ...]
    """Of each the (site, layer) of every state that is read."""
    site: str
    """Of the decoding."""
    shape: tuple[int, ...]
    """Of the decoded patches, "Y B T p p c"."""
    forced_reasons: tuple[str, ...]
    """Why the lens does not fit, if it is forced."""

    @property
    def n_bytes(self) -> int:
        """Bytes of the decoded patches, float32."""
        return math.prod(self.shape) * np.dtype(np.float32).itemsize


def decode(trace: Trace, lens: Lens, *, layers: Sequence[int] | None = None, force: bool = False) -> Decoding:
    """Turn the recorded states of image tokens into pixels.

    Args:
        trace: with the states that the lens reads (`recording_for` says which).
        lens: of the model that was recorded.
        layers: which to decode; all of the lens's default ones that the trace has when None.
        force: use the lens although it belongs to another model, site or layer. A layer without a lens of its
            own is decoded by the nearest fitted one, and another site by the lens as it is. The Decoding says
            so.

    Returns:
        The decoded patches beside the true ones.

    Raises:
        LensMismatchError: the lens does not fit, and was not forced; or it cannot fit (another width or
            patch).
        LensError: there is nothing to decode in the trace.
    """
    plan = plan_decoding(trace, lens, layers=layers, force=force)
    patches = np.empty(plan.shape, np.float32)
    for row, reads, own in zip(patches, plan.reads, plan.fitted, strict=True):
        states = [image_states(trace, *pair) for pair in reads]
        for start in range(0, len(trace), _AT_ONCE):
            some = [each[start : start + _AT_ONCE] for each in states]
            decoded = lens.decode(some[0] if len(some) == 1 else torch.stack(some), own)
            row[start : start + _AT_ONCE] = decoded.cpu().numpy()
    return Decoding(
        patches=patches,
        true=true_patches(trace.views, trace.geometry),
        layers=plan.layers,
        site=plan.site,
        model=trace.model,
        lens=lens.info,
        geometry=tuple(trace.geometry),
        views=trace.views,
        images=trace.images,
        image_hashes=tuple(trace.image_hashes),
        prompts=tuple(trace.prompts),
        answers=tuple(trace.answers),
        forced_reasons=plan.forced_reasons,
        labels=tuple(trace.labels),
        notes=(
            *trace.notes,
            *(f"intervention: {each.said}" for each in trace.interventions),
            *lens.info.notes_on(trace.image_hashes),
        ),
    )


def plan_decoding(
    trace: Trace, lens: Lens, *, layers: Sequence[int] | None = None, force: bool = False
) -> DecodingPlan:
    """What `decode` will do; arguments and errors are its. No state is read.

    Raises:
        LensMismatchError: the lens does not fit, and was not forced; or its patches are of another size.
        LensError: there is nothing to decode in the trace.
    """
    _require_image_tokens(trace, lens)
    chosen = _choose(trace, lens, layers, forced=force)
    reasons, fitted = list(mismatch(lens, model=trace.model, sites=trace.sites)), []
    for layer in chosen:
        own = layer if layer in lens.info.layers else lens.info.nearest_layer(layer)
        if own != layer:
            reasons.append(
                f"layer {layer} has no lens of its own (there are {list(lens.info.layers)}): {own} is nearest"
            )
        fitted.append(own)
    require_fit(tuple(reasons), force=force)
    movable = pictures_of(lens) == "layers"
    site = trace.sites[0] if movable and lens.info.site not in trace.sites else lens.info.site
    reads = [
        ((site, layer),) if movable else lens.reads(own) for layer, own in zip(chosen, fitted, strict=True)
    ]
    place = trace.geometry[0]
    return DecodingPlan(
        layers=chosen,
        fitted=tuple(fitted),
        reads=tuple(reads),
        site=site,
        shape=(len(chosen), len(trace), place.n_tokens, place.patch, place.patch, CHANNELS),
        forced_reasons=tuple(reasons),
    )


def _choose(trace: Trace, lens: Lens, layers: Sequence[int] | None, *, forced: bool) -> tuple[int, ...]:
    """The layers to decode; the trace must have what they need."""
    if layers is not None:
        if not layers:
            raise InputError("decode was given no layer; name at least one, or None for all.")
        if not forced and (unfit := [layer for layer in layers if layer not in lens.info.layers]):
            raise LensMismatchError(
                f"The {lens.info.kind} lens of {lens.info.model_name} has layers {list(lens.info.layers)}; "
                f"{unfit} were asked for. Fit a lens on them, or pass force=True: the nearest one is used "
                "and the pictures say so."
            )
        return tuple(layers)
    kept = tuple(layer for layer in lens.default_layers if _recorded(trace, lens, layer, forced))
    if not kept:
        needed = ", ".join(f"{site} {layer}" for site, layer in lens.reads(lens.default_layers[-1]))
        raise LensMismatchError(
            f"The trace has {', '.join(trace.sites)} at layers {list(trace.layers)}; the {lens.info.kind} "
            f"lens of {lens.info.model_name} reads {lens.info.site}, as in {needed}. Record what "
            "recording_for(lens) names."
        )
    return kept


def _recorded(trace: Trace, lens: Lens, layer: int, forced: bool) -> bool:
    moved = forced and lens.info.site not in trace.sites and pictures_of(lens) == "layers"
    return all(trace.holds(*pair) for pair in (((trace.sites[0], layer),) if moved else lens.reads(layer)))


def _require_image_tokens(trace: Trace, lens: Lens) -> None:
    if trace.token_kind == "text" or not trace.geometry:
        raise LensError(
            "A lens decodes image tokens, and this trace holds none. Record with an image and tokens='image' "
            "or 'all'."
        )
    require_patches_of_trace(trace)
    place = trace.geometry[0]
    if place.patch != lens.info.patch:
        raise LensMismatchError(
            f"The lens of {lens.info.model_name} decodes patches of {lens.info.patch} pixels; those of "
            f"{trace.model.name} have {place.patch}. No option can mend that: fit a lens on this model."
        )
