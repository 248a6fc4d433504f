"""What a lens saw in the image tokens, as pixels (`Decoding`), and the maps of it (`ActivationMaps`)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np
from einops import rearrange
from jaxtyping import Float32, UInt8
from PIL import Image

from emma_viz.data.geometry import true_patches
from emma_viz.data.image_grid import ImageGrid
from emma_viz.data.labels import ImageLabel
from emma_viz.data.provenance import ModelInfo
from emma_viz.data.tiles import kept_grids
from emma_viz.displays import bundle_of, panel_of
from emma_viz.errors import EmmaVizError, InputError
from emma_viz.files.schema import shape
from emma_viz.files.versions import require_version
from emma_viz.lens.controls import LayerVerdict, verdicts
from emma_viz.lens.info import LensInfo
from emma_viz.maps.decoding_note import DECODING_SCHEMA, SAME, DecodingNote, require_shapes, stored_image
from emma_viz.maps.kinds import MapKind, rest_of
from emma_viz.maps.scale import Rest, limits_of, normalise
from emma_viz.maps.values import (
    Scale,
    map_correlations,
    map_limits,
    map_values,
    require_choice,
    require_scale,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoding:
    """The pixels that a lens decoded from the image tokens, per layer and image, beside the true ones."""

    patches: Float32[np.ndarray, "Y B T p p c"]
    """Decoded pixels on the scale of [0, 1], NOT clipped; tokens row-major over the grid."""
    true: Float32[np.ndarray, "B T p p c"]
    """What the model saw there, pixels in [0, 1]."""
    layers: tuple[int, ...]
    """The layers of axis Y."""
    site: str
    """Hook site of the decoded states; "taps" where the lens reads several together."""
    model: ModelInfo
    """The model whose states were decoded."""
    lens: LensInfo
    """The lens."""
    geometry: tuple[ImageGrid, ...]
    """Per image, where its tokens lie."""
    views: UInt8[np.ndarray, "B height width c"]
    """What the model saw of each image."""
    images: Sequence[Image.Image]
    """The original images, RGB."""
    image_hashes: tuple[str, ...]
    """`image_hash` of each original image."""
    prompts: tuple[str, ...]
    """The messages as they were given."""
    answers: tuple[str, ...] = ()
    """The model's answers; empty when none were generated."""
    forced_reasons: tuple[str, ...] = ()
    """Why the lens did not fit the states, if it was forced on them."""
    labels: tuple[ImageLabel, ...] = ()
    """What each image is called, and what was done to it on the way in; empty where that is not known."""
    notes: tuple[str, ...] = ()
    """What a reader of pictures should know besides."""

    def __post_init__(self):
        if len(self.layers) != len(self.patches):
            raise InputError(f"Decoding: {len(self.patches)} layers of patches, but layers = {self.layers}.")
        batch = len(self.true)
        counts = {
            name: len(getattr(self, name)) for name in ("geometry", "images", "image_hashes", "prompts")
        }
        if set(counts.values()) != {batch} or {len(self.answers), len(self.labels)} - {0, batch}:
            raise InputError(
                f"Decoding: {batch} images need one entry each, got {counts}, {len(self.answers)} answers."
            )

    def __len__(self) -> int:
        """The number of images B."""
        return len(self.true)

    def __repr__(self) -> str:
        rows, columns = self.grid
        return (
            f"Decoding({self.model.name}, {len(self)} image{'s' * (len(self) != 1)}, {self.lens.kind} lens at "
            f"{self.site} × {len(self.layers)} layers, {rows}×{columns} patches{', forced' * self.forced})"
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return bundle_of(self)

    @property
    def forced(self) -> bool:
        """Whether the lens belongs to other states and was forced on these; every picture must say so."""
        return bool(self.forced_reasons)

    @property
    def verdicts(self) -> tuple[LayerVerdict, ...]:
        """Per layer, whether what the lens draws of it beats its controls; every picture must say so.

        They were measured of the states that the lens was fitted on: of others that it was forced on, none is known.
        """
        if self.forced:
            return verdicts((), self.layers, why_unknown="the lens was forced on other states")
        return self.lens.verdicts(self.layers)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.geometry[0].grid

    def decoded_images(self) -> Float32[np.ndarray, "Y B height width c"]:
        """The decoded images as one would show them: patches laid out, clipped to [0, 1]."""
        pattern = "y b (R C) i j c -> y b (R i) (C j) c"
        return np.clip(rearrange(self.patches, pattern, R=self.grid[0]), 0.0, 1.0)

    def true_images(self) -> Float32[np.ndarray, "B height width c"]:
        """The part of each view that patches see, in the same frame; pixels in [0, 1]."""
        return rearrange(self.true, "b (R C) i j c -> b (R i) (C j) c", R=self.grid[0])

    def maps(
        self,
        kind: str = "distance",
        *,
        scale: str = "shared",
        limits: tuple[float | int, float | int] | None = None,
    ) -> "ActivationMaps":
        """One number per patch, layer and image.

        Args:
            kind: `distance`, `magnitude`, `error` or `cosine` (see `emma_viz.maps.kinds`).
            scale: `shared`, `per_map`, `per_row` or `fixed` (see `ActivationMaps`).
            limits: (vmin, vmax) for `fixed`; None for the other scales.

        Raises:
            InputError: the kind or scale is unknown, or limits and scale contradict each other.
        """
        require_choice("map kind", kind, MapKind)
        require_scale(scale, limits)
        kind, scale = cast(MapKind, kind), cast(Scale, scale)
        values, true = map_values(kind, self.patches, self.true, self.grid[0])
        return ActivationMaps(
            kind=kind,
            scale=scale,
            values=values,
            true=true,
            limits=map_limits(kind, scale, self.true, values, true, limits),
            correlation=map_correlations(kind, values, true),
            decoding=self,
        )

    def select(
        self, *, layers: Sequence[int] | None = None, samples: Sequence[int] | None = None
    ) -> "Decoding":
        """A decoding of some of the layers or images, in the order given; its arrays may be views of this one's.

        Raises:
            InputError: a layer or image is not there.
        """
        kept = self.layers if layers is None else tuple(layers)
        rows = list(range(len(self)) if samples is None else samples)
        if missing := [layer for layer in kept if layer not in self.layers]:
            raise InputError(f"Layers {missing} were not decoded; there are {list(self.layers)}.")
        if not all(0 <= row < len(self) for row in rows):
            raise InputError(f"There are images 0 to {len(self) - 1}; got {rows}.")

        def pick(values: Sequence) -> tuple:
            return tuple(values[row] for row in rows) if len(values) else ()

        # In one step: what is not chosen, which may lie in a file, is not read.
        chosen, some = _as_slice([self.layers.index(layer) for layer in kept]), _as_slice(rows)
        both = isinstance(chosen, list) and isinstance(some, list)
        return replace(
            self,
            patches=self.patches[np.ix_(chosen, some) if both else (chosen, some)],
            true=self.true[some],
            layers=kept,
            geometry=pick(self.geometry),
            views=self.views[some],
            images=pick(self.images),
            image_hashes=pick(self.image_hashes),
            prompts=pick(self.prompts),
            answers=pick(self.answers),
            labels=pick(self.labels),
        )

    def to_arrays(self, *, with_images: bool = True) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The decoding as plain arrays and a JSON object, for a Study or any other store.

        Args:
            with_images: include the original images (uncompressed); a study has them already.
        """
        arrays = {"patches": self.patches, "views": self.views}
        if with_images:
            arrays |= {f"image_{index}": np.asarray(image) for index, image in enumerate(self.images)}
        meta = {
            "schema": DECODING_SCHEMA,
            "layers": list(self.layers),
            "site": self.site,
            "model": self.model.to_json(),
            "lens": self.lens.to_json(),
            **kept_grids(self.geometry),
            "image_hashes": list(self.image_hashes),
            "prompts": list(self.prompts),
            "answers": list(self.answers),
            "forced_reasons": list(self.forced_reasons),
            "labels": [asdict(label) for label in self.labels],
            "notes": list(self.notes),
        }
        return arrays, meta

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, np.ndarray],
        meta: Mapping[str, Any],
        *,
        images: Sequence[Image.Image] | None = None,
    ) -> "Decoding":
        """Undo `to_arrays`, also after a trip through JSON.

        Args:
            arrays: as `to_arrays` named them.
            meta: what it gave beside them.
            images: the original images, when they were not stored with the arrays.

        Raises:
            InputError: something is missing, or was written by another version.
        """
        require_version(meta, "schema", DECODING_SCHEMA, where="This decoding", error=InputError)
        known = shape(dict(meta), DecodingNote, where="the description of a decoding", error=InputError)
        stored = [] if images is not None else [f"image_{index}" for index in range(len(known.places))]
        if missing := [name for name in ("patches", "views", *stored) if name not in arrays]:
            raise InputError(f"This decoding lacks {missing[0]!r}; it was not stored whole.")
        patches, views = np.asarray(arrays["patches"]), np.asarray(arrays["views"])
        require_shapes(known, patches, views)
        if images is None:
            images = tuple(
                stored_image(np.asarray(arrays[name]), place)
                for name, place in zip(stored, known.places, strict=True)
            )
        try:
            model, lens = ModelInfo.from_json(known.model), LensInfo.from_json(known.lens)
        except EmmaVizError as error:
            raise InputError(f"The description of a decoding: {error}") from error
        return cls(
            patches=patches.astype(np.float32, copy=False),
            true=true_patches(views, known.places),
            geometry=known.places,
            views=views,
            images=images,
            model=model,
            lens=lens,
            **{name: getattr(known, name) for name in SAME},
        )


def _as_slice(numbers: list[int]) -> slice | list[int]:
    """Numbers that follow one another as a slice, which copies nothing."""
    if numbers and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return slice(numbers[0], numbers[-1] + 1)
    return numbers


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

    def __repr__(self) -> str:
        _, batch, rows, columns = self.values.shape
        return (
            f"ActivationMaps({self.decoding.model.name}, {self.kind}, {self.scale} scale, {batch} "
            f"image{'s' * (batch != 1)} × {len(self.layers)} layers, {rows}×{columns})"
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return bundle_of(self)

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

    def show(
        self, axes: Any, layer: int, *, what: str = "map", sample: int = 0, colormap: str = "viridis"
    ) -> Any:
        """Draw one panel into matplotlib axes, in the pixels of the original image.

        Args:
            axes: matplotlib's.
            layer: which.
            what: `map`, `decoded`, `highlight` or `input`.
            sample: which image.
            colormap: any of matplotlib's.

        Raises:
            InputError: the layer, the image or `what` is none.
        """
        return panel_of(self, axes, layer, what=what, sample=sample, colormap=colormap)

    def on_scale(self, scale: str, limits: tuple[float | int, float | int] | None = None) -> "ActivationMaps":
        """The same maps on another colour scale.

        Raises:
            InputError: the scale is unknown, or limits and scale contradict each other.
        """
        require_scale(scale, limits)
        chosen = map_limits(self.kind, scale, self.decoding.true, self.values, self.true, limits)
        return replace(self, scale=cast(Scale, scale), limits=chosen)

    def with_limits(self, limits: Float32[np.ndarray, "Y B 2"]) -> "ActivationMaps":
        """The same maps on other colour scales."""
        return replace(self, limits=limits)
