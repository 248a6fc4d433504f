"""The difference of two models' maps of the same images."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from emma_viz.errors import InputError
from emma_viz.maps.decoding import ActivationMaps
from emma_viz.maps.scale import difference_limit


@dataclass(frozen=True, kw_only=True, eq=False)
class MapDifference:
    """First minus second, patch by patch, on the raw values (never on normalised ones)."""

    values: Float32[np.ndarray, "Y B R C"]
    """Differences; NaN where either map has no value."""
    limit: Float32[np.ndarray, "B"]
    """Per image, the half width of a colour scale centred on zero (`emma_viz.maps.scale.difference_limit`)."""
    layers: tuple[int, ...]
    """The layers that both have, in the first's order."""
    names: tuple[str, str]
    """The models."""
    kind: str
    """The kind of both maps."""


def map_difference(first: ActivationMaps, second: ActivationMaps) -> MapDifference:
    """Compare two models' maps of the same images, at the layers that both have.

    Raises:
        InputError: the maps differ in kind, images or grid, or have no layer in common.
    """
    sides = f"{first.decoding.model.name} ({first.kind}) and {second.decoding.model.name} ({second.kind})"
    if first.kind != second.kind or first.decoding.image_hashes != second.decoding.image_hashes:
        raise InputError(
            f"Only maps of one kind and of the same images can be subtracted from one another; got {sides}."
        )
    if first.values.shape[2:] != second.values.shape[2:] or not _same_places(first, second):
        raise InputError(
            f"Maps of {first.values.shape[2:]} and {second.values.shape[2:]} rows and columns cannot be compared patch "
            f"by patch, or lie elsewhere in the image: {sides}. Take models with the same grid."
        )
    layers = tuple(layer for layer in first.layers if layer in second.layers)
    if not layers:
        raise InputError(
            f"{sides} have no layer in common ({list(first.layers)}; {list(second.layers)}); a difference needs one."
        )
    one, other = (maps.values[[maps.layers.index(layer) for layer in layers]] for maps in (first, second))
    values = one - other
    limit = [difference_limit(values[:, sample], first.rest) for sample in range(values.shape[1])]
    return MapDifference(
        values=values,
        limit=np.array(limit, np.float32),
        layers=layers,
        names=(first.decoding.model.name, second.decoding.model.name),
        kind=first.kind,
    )


def _same_places(first: ActivationMaps, second: ActivationMaps) -> bool:
    """Whether patch by patch they see the same part of each image."""
    pairs = zip(first.decoding.geometry, second.decoding.geometry, strict=True)
    return all(np.allclose(one.token_boxes(), other.token_boxes(), atol=1e-3) for one, other in pairs)
