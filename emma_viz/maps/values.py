"""The numbers of maps and the limits of their colours, on plain arrays."""

from typing import Any, Literal, get_args

import numpy as np
from einops import rearrange
from jaxtyping import Float32

from emma_viz.errors import InputError
from emma_viz.maps.kinds import COMPARES_WITH_TRUTH, MapKind, patch_map, rest_of
from emma_viz.maps.scale import Rest, limits_of
from emma_viz.metrics.quality import correlation

Scale = Literal["shared", "per_map", "per_row", "fixed"]
"""How the limits of maps are chosen: see `emma_viz.maps.ActivationMaps`."""


def map_values(
    kind: MapKind,
    decoded: Float32[np.ndarray, "Y B T p p c"],
    true: Float32[np.ndarray, "B T p p c"],
    rows: int,
) -> tuple[Float32[np.ndarray, "Y B R C"], Float32[np.ndarray, "B R C"]]:
    """The maps of decoded patches, and that of the true ones.

    Args:
        kind: what the numbers are.
        decoded: pixels on the scale of [0, 1].
        true: what the model saw there.
        rows: of the grid.

    Returns:
        (the maps, NaN where a patch is not finite; the same map of the true pixels).
    """
    same = np.stack([patch_map(kind, each, each) for each in true])
    values = np.stack(
        [[patch_map(kind, *pair) for pair in zip(layer, true, strict=True)] for layer in decoded]
    )
    return (
        rearrange(values, "y b (R C) -> y b R C", R=rows),
        rearrange(same, "b (R C) -> b R C", R=rows),
    )


def require_scale(scale: str, limits: tuple[float | int, float | int] | None) -> None:
    """Refuse a scale that is unknown, or limits that do not belong to it.

    Raises:
        InputError: it is one.
    """
    require_choice("scale", scale, Scale)
    if (scale == "fixed") != (limits is not None):
        raise InputError(
            f"scale={scale!r} and limits={limits!r} contradict each other: limits=(vmin, vmax) belong to "
            "scale='fixed'."
        )
    if limits is not None and not (np.isfinite(limits).all() and limits[0] < limits[1]):
        raise InputError(f"limits must be two finite numbers, the smaller first; got {limits}.")


def map_limits(
    kind: MapKind,
    scale: str,
    patches: Float32[np.ndarray, "B T p p c"],
    values: Float32[np.ndarray, "Y B R C"],
    true: Float32[np.ndarray, "B R C"],
    fixed: tuple[float | int, float | int] | None = None,
) -> Float32[np.ndarray, "Y B 2"]:
    """vmin and vmax for one model's maps.

    Args:
        kind: of the maps.
        scale: how the limits are chosen.
        patches: the true ones, pixels in [0, 1].
        values: the maps.
        true: the same map of the true pixels.
        fixed: the limits of the scale `fixed`.

    Returns:
        The lower and the upper limit of each map, in the map's units.
    """
    rest = rest_of(kind, patches[0, 0].size)
    if scale == "fixed":
        return np.broadcast_to(np.asarray(fixed, np.float32), (*values.shape[:2], 2)).copy()
    if scale == "per_map":
        return np.stack([[limits_of(each, rest) for each in layer] for layer in values])
    if scale == "per_row":
        per_image = np.stack([limits_of(values[:, sample], rest) for sample in range(values.shape[1])])
    else:
        per_image = np.stack([_shared(kind, *pair, rest) for pair in zip(patches, true, strict=True)])
    return np.broadcast_to(per_image, (*values.shape[:2], 2)).copy()


def _shared(kind: MapKind, patches: np.ndarray, true: np.ndarray, rest: Rest) -> np.ndarray:
    """The shared scale of one image, which depends on its true pixels alone."""
    if kind == "cosine":
        return np.array([rest.low, rest.high], np.float32)
    if kind == "error":  # at the top: the error of one who shows the median patch everywhere
        return np.array([0, limits_of(patch_map("distance", patches, patches), rest)[1]], np.float32)
    return limits_of(true, rest)


def map_correlations(
    kind: MapKind, values: Float32[np.ndarray, "Y B R C"], true: Float32[np.ndarray, "B R C"]
) -> Float32[np.ndarray, "Y B"]:
    """Pearson correlation of each map with that of the true pixels; NaN where it is not defined."""
    if kind in COMPARES_WITH_TRUTH:
        return np.full(values.shape[:2], np.nan, np.float32)
    pairs = [[correlation(*pair) for pair in zip(layer, true, strict=True)] for layer in values]
    return np.array(pairs, np.float32)


def require_choice(what: str, value: str, choices: Any) -> None:
    """Refuse what is none of a `Literal`.

    Raises:
        InputError: it is none.
    """
    if value not in get_args(choices):
        raise InputError(f"There is no {what} {value!r}; choose one of {', '.join(get_args(choices))}.")
