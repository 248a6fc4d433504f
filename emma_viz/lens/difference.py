"""The difference of two models' maps of the same images."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from emma_viz.errors import InputError
from emma_viz.lens.maps import ActivationMaps


@dataclass(frozen=True, kw_only=True, eq=False)
class MapDifference:
    """First minus second, patch by patch, on the raw values (never on normalised ones)."""

    values: Float32[np.ndarray, "Y B R C"]
    """Differences; NaN where either map has no value."""
    limit: Float32[np.ndarray, "B"]
    """Per image, the half width of a colour scale centred on zero: 98 % of the absolute differences of all
    layers."""
    layers: tuple[tuple[int, int], ...]
    """Which layer of the first was compared with which of the second."""
    names: tuple[str, str]
    """The models."""
    kind: str
    """The kind of both maps."""


def map_difference(first: ActivationMaps, second: ActivationMaps) -> MapDifference:
    """Compare two models' maps of the same images, layer by layer in the order that each has them.

    Raises:
        InputError: the maps differ in kind, images, grid or number of layers.
    """
    if first.kind != second.kind or first.decoding.image_hashes != second.decoding.image_hashes:
        raise InputError("Only maps of one kind and of the same images can be subtracted from one another.")
    if first.values.shape != second.values.shape:
        raise InputError(
            f"Maps of {first.values.shape} and {second.values.shape} (layers, images, rows, columns) cannot "
            "be compared; select as many layers of one as of the other, of models with the same grid."
        )
    values = first.values - second.values
    limit = np.array([_limit(values[:, sample]) for sample in range(values.shape[1])], np.float32)
    return MapDifference(
        values=values,
        limit=limit,
        layers=tuple(zip(first.layers, second.layers, strict=True)),
        names=(first.decoding.model.name, second.decoding.model.name),
        kind=first.kind,
    )


def _limit(values: np.ndarray) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return float(np.percentile(finite, 98)) if finite.size else 0.0
