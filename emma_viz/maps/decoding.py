"""Decoding: what a lens saw in the image tokens, as pixels; and `decode`, which makes one."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from einops import rearrange
from jaxtyping import Float32, UInt8
from PIL import Image

from emma_viz.capture.sites import SITES
from emma_viz.data.geometry import Geometry, true_patches
from emma_viz.data.labels import ImageLabel
from emma_viz.data.provenance import ModelInfo
from emma_viz.errors import EmmaVizError, InputError
from emma_viz.files.schema import shape
from emma_viz.lens.info import TAPS, Layer, LensInfo
from emma_viz.shapes import CHANNELS

if TYPE_CHECKING:
    from emma_viz.maps.activation import ActivationMaps

SCHEMA = 1
"""Version of the arrays and meta of `Decoding.to_arrays`."""


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
    geometry: tuple[Geometry, ...]
    """Per image, where its tokens lie."""
    views: UInt8[np.ndarray, "B S S c"]
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

    @property
    def forced(self) -> bool:
        """Whether the lens belongs to other states and was forced on these; every picture must say so."""
        return bool(self.forced_reasons)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.geometry[0].grid

    def decoded_images(self) -> Float32[np.ndarray, "Y B height width c"]:
        """The decoded images as one would show them: patches laid out, clipped to [0, 1]."""
        pattern = "y b (R C) i j c -> y b (R i) (C j) c"
        return np.clip(rearrange(self.patches, pattern, R=self.grid[0]), 0.0, 1.0)

    def true_images(self) -> Float32[np.ndarray, "B height width c"]:
        """The part of each view that patches see, in the same frame."""
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
            scale: `shared`, `per_map`, `per_row` or `fixed` (see `emma_viz.maps.activation`).
            limits: (vmin, vmax) for `fixed`; None for the other scales.

        Raises:
            InputError: the kind or scale is unknown, or limits and scale contradict each other.
        """
        from emma_viz.maps.activation import (
            make_maps,  # maps hold their Decoding, so maps.py imports this file
        )

        return make_maps(self, kind, scale=scale, limits=limits)

    def select(
        self, *, layers: Sequence[int] | None = None, samples: Sequence[int] | None = None
    ) -> "Decoding":
        """A decoding of some of the layers or images, in the order given.

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

        chosen = [self.layers.index(layer) for layer in kept]
        return replace(
            self,
            patches=self.patches[chosen][:, rows],
            true=self.true[rows],
            layers=kept,
            geometry=pick(self.geometry),
            views=self.views[rows],
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
            "schema": SCHEMA,
            "layers": list(self.layers),
            "site": self.site,
            "model": self.model.to_json(),
            "lens": self.lens.to_json(),
            "geometry": [asdict(geometry) for geometry in self.geometry],
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
            images: the original images, when they were not stored with the arrays.

        Raises:
            InputError: something is missing, or was written by another version.
        """
        if meta.get("schema") != SCHEMA:
            raise InputError(
                f"This decoding has schema {meta.get('schema')!r}; this version of emma_viz reads {SCHEMA}."
            )
        known = shape(dict(meta), _Note, where="the description of a decoding", error=InputError)
        stored = [] if images is not None else [f"image_{index}" for index in range(len(known.geometry))]
        if missing := [name for name in ("patches", "views", *stored) if name not in arrays]:
            raise InputError(f"This decoding lacks {missing[0]!r}; it was not stored whole.")
        patches, views = np.asarray(arrays["patches"]), np.asarray(arrays["views"])
        _require_shapes(known, patches, views)
        if images is None:
            images = tuple(
                _image(np.asarray(arrays[name]), place)
                for name, place in zip(stored, known.geometry, strict=True)
            )
        try:
            model, lens = ModelInfo.from_json(known.model), LensInfo.from_json(known.lens)
        except EmmaVizError as error:
            raise InputError(f"The description of a decoding: {error}") from error
        return cls(
            patches=patches.astype(np.float32, copy=False),
            true=true_patches(views, known.geometry),
            views=views,
            images=images,
            model=model,
            lens=lens,
            **{name: getattr(known, name) for name in _SAME},
        )


def joined(decodings: Sequence[Decoding], *, images: Sequence[Image.Image]) -> Decoding:
    """One decoding of the images of several, in order, which were decoded alike.

    Args:
        decodings: at least one, of one model, lens and layers.
        images: the original images of all.

    Raises:
        InputError: there is none, or they differ in model, lens, site or layers.
    """
    if not decodings:
        raise InputError("expected at least one decoding to join, got none.")
    first = decodings[0]
    if len(decodings) == 1:
        return replace(first, images=images)
    for name in ("layers", "site", "model", "lens"):
        if any(getattr(each, name) != getattr(first, name) for each in decodings):
            raise InputError(f"Decodings that are joined are alike; these differ in {name}.")

    def chain(name: str) -> tuple:
        return tuple(value for each in decodings for value in getattr(each, name))

    one = ("geometry", "image_hashes", "prompts", "answers", "labels")
    said = ("forced_reasons", "notes")
    return replace(
        first,
        patches=np.concatenate([each.patches for each in decodings], axis=1),
        true=np.concatenate([each.true for each in decodings]),
        views=np.concatenate([each.views for each in decodings]),
        images=images,
        **{name: chain(name) for name in one},
        **{name: tuple(dict.fromkeys(chain(name))) for name in said},
    )


@dataclass(frozen=True, kw_only=True)
class _Note:
    """The JSON object of `Decoding.to_arrays`."""

    schema: int
    layers: tuple[Layer, ...]
    site: str
    model: dict[str, Any]
    lens: dict[str, Any]
    geometry: Annotated[tuple[Geometry, ...], msgspec.Meta(min_length=1)]
    image_hashes: tuple[str, ...]
    prompts: tuple[str, ...]
    answers: tuple[str, ...]
    forced_reasons: tuple[str, ...]
    labels: tuple[ImageLabel, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        if self.site not in (*SITES, TAPS):
            raise InputError(f"{self.site[:100]!r} is no hook site")
        if len(set(self.layers)) != len(self.layers):
            raise InputError(f"a layer stands in {list(self.layers)[:100]} twice")


_SAME = (
    "layers",
    "site",
    "geometry",
    "image_hashes",
    "prompts",
    "answers",
    "forced_reasons",
    "labels",
    "notes",
)
"""What stands in the JSON object as a decoding has it."""


def _require_shapes(known: _Note, patches: np.ndarray, views: np.ndarray) -> None:
    """Refuse arrays that are not those of the images that are described."""
    first, batch = known.geometry[0], len(known.geometry)
    if any((each.size, each.patch) != (first.size, first.patch) for each in known.geometry):
        raise InputError("A decoding has views of one size and patch; its images have several.")
    expected = (len(known.layers), batch, first.n_tokens, first.patch, first.patch, CHANNELS)
    if patches.dtype.kind != "f" or patches.shape != expected:
        raise InputError(
            f"Expected patches of floats and shape {expected}, got {patches.dtype} {patches.shape}."
        )
    expected = (batch, first.size, first.size, CHANNELS)
    if views.dtype != np.uint8 or views.shape != expected:
        raise InputError(f"Expected views of uint8 and shape {expected}, got {views.dtype} {views.shape}.")


def _image(pixels: np.ndarray, place: Geometry) -> Image.Image:
    expected = (*place.image_size[::-1], CHANNELS)
    if pixels.dtype != np.uint8 or pixels.shape != expected:
        raise InputError(
            f"Expected an image of uint8 and shape {expected}, got {pixels.dtype} {pixels.shape}."
        )
    return Image.fromarray(pixels)
