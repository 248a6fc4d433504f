"""Fitting a ridge lens from recorded states, and what all fits share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast

import torch

from emma_viz.data.images import image_hash, read_image
from emma_viz.data.provenance import ModelInfo
from emma_viz.errors import LensError
from emma_viz.lens.evaluation import AnyLens, QualityGatherer, measured_by
from emma_viz.lens.fitting.states import StateBatch
from emma_viz.lens.info import HASH_DIGITS, LensInfo
from emma_viz.lens.ridge import RIDGE, RidgeLens, RidgeStatistics


@dataclass(frozen=True, kw_only=True)
class RidgeSettings:
    """How a ridge lens is fitted."""

    ridge: float = RIDGE
    """λ, relative to the mean diagonal of each layer's sum of squares."""
    dtype: torch.dtype = torch.float64
    """Type of the sums: float64, or float32 for half the memory and time."""
    store: torch.dtype = torch.float32
    """Type of the weights that are kept; the quality is measured with them as stored."""


def fit_ridge_on_states(
    batches: Iterable[StateBatch],
    heldout: Iterable[StateBatch],
    *,
    model: ModelInfo,
    site: str,
    layers: Sequence[int],
    fitted_on: str,
    images: Sequence[str] = (),
    settings: RidgeSettings = RidgeSettings(),
) -> RidgeLens:
    """Fit on batches of recorded states and measure on others.

    Args:
        batches: to fit on; read once.
        heldout: to measure the quality on; read once, no image of it among `batches`.
        model: the model that was recorded.
        site: the hook site that was recorded.
        layers: the layers of the states' first axis, ascending.
        fitted_on: the images, in words, for the pictures.
        images: their hashes, so that a picture of one of them says so.
        settings: λ and number types.

    Raises:
        LensError: there is nothing to fit or measure on, shapes differ between batches, or a state is not
            finite.
    """
    if not model.takes_images:
        raise LensError(f"{model.name} takes no images: it has no grid of image tokens to decode.")
    statistics = RidgeStatistics(layers=tuple(layers), dtype=settings.dtype)
    n_fit, patch = 0, 0
    for states, patches in batches:
        statistics.update(states, patches)
        n_fit, patch = n_fit + len(patches), patches.shape[2]
    weight, bias = statistics.solve(settings.ridge)
    info = LensInfo(
        kind="ridge",
        model_name=model.name,
        model_fingerprint=model.fingerprint,
        site=site,
        layers=tuple(layers),
        patch=patch,
        grid=model.grid,
        part=model.part,
        fitted_on=fitted_on,
        n_fit=n_fit,
        n_heldout=0,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        fit_images=kept_hashes(images),
        notes=_notes(settings, statistics.n_tokens, weight.shape[1]),
    )
    lens = RidgeLens(info=info, weight=weight.to(settings.store), bias=bias)
    return measured(lens, heldout)


def measured(lens: AnyLens, heldout: Iterable[StateBatch]) -> AnyLens:
    """The lens with its quality, and its controls', on these batches, none of whose images it was fitted on.

    Raises:
        LensError: no batch came.
    """
    gatherer = QualityGatherer(lens.info.layers, lens.info.grid)
    for states, patches in heldout:
        true = patches.float().cpu().numpy()
        gatherer.add_true(true)
        for index, layer in enumerate(lens.info.layers):
            gatherer.add_layer(layer, lens.decode(states[index], layer).cpu().numpy(), true)
    return measured_by(lens, gatherer)


def join_layers(parts: Sequence[RidgeLens]) -> RidgeLens:
    """One lens from lenses of the same model, site and images, each with other layers."""
    infos = [part.info for part in parts]
    info = replace(
        infos[0],
        layers=tuple(layer for each in infos for layer in each.layers),
        quality=tuple(record for each in infos for record in each.quality),
        controls=tuple(record for each in infos for record in each.controls),
    )
    weight, bias = torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])
    return RidgeLens(info=info, weight=weight, bias=bias)


def require_separate(images: Sequence[Any], heldout: Sequence[Any]) -> tuple[str, ...]:
    """The quality of a lens on images that it was fitted on would be no quality at all.

    Returns:
        The hashes of the images to fit on.

    Raises:
        LensError: one part is empty, or an image is in both.
    """
    if not len(images) or not len(heldout):
        raise LensError(
            f"A lens needs images to fit on and others to measure on; got {len(images)} and {len(heldout)}."
        )
    fitted = {image_hash(read_image(image)): index for index, image in enumerate(images)}
    for index, image in enumerate(heldout):
        if (same := fitted.get(image_hash(read_image(image)))) is not None:
            raise LensError(
                f"Held-out image {index} is also image {same} of those to fit on. Measure on images that the "
                "lens has not seen."
            )
    return tuple(fitted)


def with_fit_images(lens: AnyLens, hashes: Sequence[str]) -> AnyLens:
    """The lens with the hashes of the images that it was fitted on, so that a picture of one of them says so."""
    return replace(cast(Any, lens), info=replace(lens.info, fit_images=kept_hashes(hashes)))


def kept_hashes(hashes: Sequence[str]) -> tuple[str, ...]:
    """What a lens keeps of the hashes of its images: each once, the first digits of it."""
    return tuple(dict.fromkeys(each[:HASH_DIGITS] for each in hashes))


def _notes(settings: RidgeSettings, n_tokens: int, width: int) -> tuple[str, ...]:
    notes = [f"λ = {settings.ridge:g} of the mean diagonal, {n_tokens} tokens"]
    if n_tokens < 10 * width:
        notes.append(f"few tokens for {width} dimensions: expect a better fit with more images")
    return tuple(notes)
