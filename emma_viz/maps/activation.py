"""ActivationMaps: one number per patch, layer and image, with the colour scale that they are shown on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

import numpy as np
from einops import rearrange
from jaxtyping import Float32

from emma_viz.errors import InputError
from emma_viz.maps.decoding import Decoding
from emma_viz.maps.kinds import COMPARES_WITH_TRUTH, MapKind, patch_map, rest_of
from emma_viz.maps.scale import Rest, limits_of, normalise
from emma_viz.metrics.quality import correlation

Scale = Literal["shared", "per_map", "per_row", "fixed"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ActivationMaps:
    """Maps of one model, with what it takes to compare them.

    Scales, always per image:
    `shared`   one for all layers (and all models: `share_limits`), that of the same map of the true pixels.
               `error`: from 0 to the upper end of `distance`; `cosine`: −1 to 1.
    `per_row`  one for all layers of this model, that of these maps together. `per_map`: each map its own.
    `fixed`    limits given by the user.
    The limits of some values are `emma_viz.maps.scale.limits_of`: their 2–98 %, unless those collapse.
    """

    kind: MapKind
    """What the numbers are (`emma_viz.maps.kinds`)."""
    scale: Scale
    """How `limits` were chosen."""
    values: Float32[np.ndarray, "Y B R C"]
    """The maps, raw; NaN where a decoded patch was not finite."""
    true: Float32[np.ndarray, "B R C"]
    """The same map of the true pixels: 0 everywhere for `error`, 1 for `cosine`."""
    limits: Float32[np.ndarray, "Y B 2"]
    """vmin and vmax of every map's colour scale."""
    correlation: Float32[np.ndarray, "Y B"]
    """Pearson correlation of each map with `true`; NaN where it is not defined (a constant map; `error`,
    `cosine`)."""
    decoding: Decoding
    """What was mapped."""

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers of axis Y."""
        return self.decoding.layers

    @property
    def vmin(self) -> Float32[np.ndarray, "Y B"]:
        """Lower ends of the colour scales."""
        return self.limits[..., 0]

    @property
    def vmax(self) -> Float32[np.ndarray, "Y B"]:
        """Upper ends of the colour scales."""
        return self.limits[..., 1]

    @property
    def rest(self) -> Rest:
        """How maps of this kind are shown where they hardly differ."""
        return rest_of(self.kind, self.decoding.true[0, 0].size)

    def true_limits(self) -> Float32[np.ndarray, "B 2"]:
        """The colour scale for the map of the true pixels: the maps' own where it is one, else its own."""
        if self.scale in ("shared", "fixed"):
            return self.limits[0]
        return np.stack([limits_of(each, self.rest) for each in self.true])

    def normalised(self) -> Float32[np.ndarray, "Y B R C"]:
        """The maps on their colour scales, in [0, 1]; NaN stays NaN."""
        return normalise(self.values, self.limits).astype(np.float32)

    def on_scale(self, scale: str, limits: tuple[float | int, float | int] | None = None) -> "ActivationMaps":
        """The same maps on another colour scale.

        Raises:
            InputError: the scale is unknown, or limits and scale contradict each other.
        """
        check_scale(scale, limits)
        chosen = _limits(self.decoding, self.kind, scale, self.values, self.true, limits)
        return replace(self, scale=cast(Scale, scale), limits=chosen)

    def with_limits(self, limits: Float32[np.ndarray, "Y B 2"]) -> "ActivationMaps":
        """The same maps on other colour scales."""
        return replace(self, limits=limits)


def make_maps(
    decoding: Decoding,
    kind: str,
    *,
    scale: str = "shared",
    limits: tuple[float | int, float | int] | None = None,
) -> ActivationMaps:
    """Map a decoding; `Decoding.maps` is the short way.

    Raises:
        InputError: the kind or scale is unknown, or limits and scale contradict each other.
    """
    _check_choice("map kind", kind, MapKind)
    check_scale(scale, limits)
    kind, scale = cast(MapKind, kind), cast(Scale, scale)
    rows = decoding.grid[0]
    true = np.stack([patch_map(kind, each, each) for each in decoding.true])
    values = np.stack(
        [
            [patch_map(kind, *pair) for pair in zip(layer, decoding.true, strict=True)]
            for layer in decoding.patches
        ]
    )
    true = rearrange(true, "b (R C) -> b R C", R=rows)
    values = rearrange(values, "y b (R C) -> y b R C", R=rows)
    return ActivationMaps(
        kind=kind,
        scale=scale,
        values=values,
        true=true,
        limits=_limits(decoding, kind, scale, values, true, limits),
        correlation=_correlations(kind, values, true),
        decoding=decoding,
    )


def share_limits(maps: Sequence[ActivationMaps]) -> tuple[ActivationMaps, ...]:
    """Put the maps of several models of the same images on one colour scale per image.

    Models that see the same pixels have the same scale already; others get the one that spans theirs. `fixed`
    scales are equal by themselves; `per_map` and `per_row` are meant to differ and are returned as they are.

    Raises:
        InputError: the maps differ in kind, scale or images.
    """
    if len({(each.kind, each.scale, each.decoding.image_hashes) for each in maps}) > 1:
        what = "; ".join(f"{each.decoding.model.name}: {each.kind}, {each.scale}" for each in maps)
        raise InputError(
            f"Only maps of one kind, one scale and the same images can share a scale; got {what}."
        )
    if not maps or maps[0].scale != "shared":
        return tuple(maps)
    per_image = np.stack([each.limits[0] for each in maps])  # models, images, ends
    ends = np.stack([per_image[..., 0].min(axis=0), per_image[..., 1].max(axis=0)], axis=-1)
    return tuple(each.with_limits(np.broadcast_to(ends, each.limits.shape).copy()) for each in maps)


def check_scale(scale: str, limits: tuple[float | int, float | int] | None) -> None:
    """Refuse a scale that is unknown, or limits that do not belong to it.

    Raises:
        InputError: it is one.
    """
    _check_choice("scale", scale, Scale)
    if (scale == "fixed") != (limits is not None):
        raise InputError(
            f"scale={scale!r} and limits={limits!r} contradict each other: limits=(vmin, vmax) belong to "
            "scale='fixed'."
        )
    if limits is not None and not (np.isfinite(limits).all() and limits[0] < limits[1]):
        raise InputError(f"limits must be two finite numbers, the smaller first; got {limits}.")


def _limits(decoding, kind, scale, values, true, fixed) -> np.ndarray:
    """vmin and vmax "Y B 2" for one model's maps."""
    rest = rest_of(kind, decoding.true[0, 0].size)
    if scale == "fixed":
        return np.broadcast_to(np.asarray(fixed, np.float32), (*values.shape[:2], 2)).copy()
    if scale == "per_map":
        return np.stack([[limits_of(each, rest) for each in layer] for layer in values])
    if scale == "per_row":
        per_image = np.stack([limits_of(values[:, sample], rest) for sample in range(values.shape[1])])
    else:
        per_image = np.stack([_shared(kind, *pair, rest) for pair in zip(decoding.true, true, strict=True)])
    return np.broadcast_to(per_image, (*values.shape[:2], 2)).copy()


def _shared(kind: MapKind, patches: np.ndarray, true: np.ndarray, rest: Rest) -> np.ndarray:
    """The shared scale of one image, which depends on its true pixels alone."""
    if kind == "cosine":
        return np.array([rest.low, rest.high], np.float32)
    if kind == "error":  # at the top: the error of one who shows the median patch everywhere
        return np.array([0, limits_of(patch_map("distance", patches, patches), rest)[1]], np.float32)
    return limits_of(true, rest)


def _correlations(kind: MapKind, values: np.ndarray, true: np.ndarray) -> np.ndarray:
    if kind in COMPARES_WITH_TRUTH:
        return np.full(values.shape[:2], np.nan, np.float32)
    pairs = [[correlation(*pair) for pair in zip(layer, true, strict=True)] for layer in values]
    return np.array(pairs, np.float32)


def _check_choice(what: str, value: str, choices) -> None:
    if value not in get_args(choices):
        raise InputError(f"There is no {what} {value!r}; choose one of {', '.join(get_args(choices))}.")
