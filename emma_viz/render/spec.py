"""What a figure shows, as numbers and words: everything that is needed to draw it, and nothing that draws."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from emma_viz.errors import InputError
from emma_viz.maps.scale import UNSEEN_DIFFERENCE, Rest, difference_limit
from emma_viz.render.colours import require_colormap
from emma_viz.render.expectations import (
    HIGHEST_NUMBER,
    expect_extent,
    expect_limits,
    expect_shape,
    expect_words,
)
from emma_viz.render.spans import Extent, GridSpans
from emma_viz.render.words import clean

STYLES = ("default", "paper")
SCALES = ("shared", "per_row", "per_map", "fixed")
ONE_SCALE = ("shared", "fixed")
"""The scales in which all maps of an image have the same limits."""

Limits = tuple[float, float]
"""Lowest and highest value of a colour scale."""

FIGURE_MODELS = 8
"""Models that a figure shows."""
_MOST = 20_000
_SMALLEST_TYPE, _LARGEST_TYPE = 0.6, 1.3
"""Maps that a figure may show, over all its images and models; also its images, and its notes."""
_DEEPEST = 10**6
"""The largest layer number, which no model reaches."""

WEAK_MARK = "†"
"""Stands at a layer of which a lens draws nothing that beats its controls."""

MAP_KINDS = {
    "distance": "distance to the median patch (L2)",
    "magnitude": "magnitude of the decoded patch (L2)",
    "error": "distance to the true patch",
    "cosine": "cosine to the true patch",
}
"""Map kind → what its colour bar says."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelCase:
    """What one model's image tokens hold of one image, at the layers that are shown.

    Raises:
        InputError: the fields do not fit one another.
    """

    name: str
    """The model, as the reader should see it."""
    answer: str
    """What the model answered."""
    layers: tuple[int, ...]
    """The Y layers shown, left to right; -1 is the input of block 0."""
    decoded: Float[np.ndarray, "Y h w 3"]
    """Decoded images of h = R·p by w = C·p pixels, in [0, 1], in the frame of the patch grid; what is not finite
    is drawn grey."""
    maps: Float[np.ndarray, "Y R C"]
    """Raw map values; NaN where a decoded patch was not finite."""
    limits: Float[np.ndarray, "Y 2"]
    """Colour limits (lowest, highest) of each map."""
    correlation: Float[np.ndarray, "Y"]
    """Correlation of each map with the map of the true pixels; NaN where it is undefined."""
    retention: tuple[tuple[int, float], ...] = ()
    """(layer, R² of the decoded pixels) of all layers that were decoded, shown or not."""
    lens: str = ""
    """The lens and its quality on held-out images, in words."""
    revision: str = ""
    """Revision and fingerprint of the checkpoint, in words."""
    site: str = ""
    """The hook site that was decoded."""
    spans: GridSpans | None = None
    """Its own `ImageCase.spans`, where its preprocessing differs; None is the image's."""
    evidence: Float[np.ndarray, "R C"] | None = None
    """By how much each patch's token supports `ImageCase.word`, nats of its log-probability; None without a word."""
    score: float | None = None
    """The log-probability of that word in this model, nats; None where it is not known."""
    judged: str = ""
    """Whether the tokens that the evidence ranks highest matter more than random ones, in words; "" is not judged."""
    beats: bool | None = None
    """Whether they do; None where that was not judged. What does not is marked in every picture."""
    n_layer: int | None = None
    """Blocks of the model; None is as many as its layers reach."""
    forced: bool = False
    """Whether the lens does not belong to these states and was forced on them; `FigureSpec.notes` says why."""
    marked: tuple[int, ...] = ()
    """Layers shown of which the lens draws nothing that beats its controls; every picture marks them."""
    controls: str = ""
    """Which of the layers shown beat which controls, in words; what is not known is said too."""

    def __post_init__(self):
        expect_words(self)
        where, count = f"model {self.name!r}", len(self.layers)
        if not count:
            raise InputError(f"{where}: expected at least one layer to show, got none.")
        if len(set(self.layers)) != count:
            raise InputError(f"{where}: expected every layer once, got {self.layers[:50]}.")
        if not all(
            -1 <= layer <= _DEEPEST for layer in (*self.layers, *(layer for layer, _ in self.retention))
        ):
            raise InputError(f"{where}: expected layers of -1 to {_DEEPEST}.")
        ends_of = {"decoded": (None, None, 3), "maps": (None, None), "limits": (2,), "correlation": ()}
        for name, ends in ends_of.items():
            expect_shape(f"{where}: {name}", getattr(self, name), (count, *ends))
        expect_limits(f"{where}: limits", self.limits)
        if set(self.marked) - set(self.layers):
            raise InputError(f"{where}: expected marks at layers that are shown, got {self.marked[:50]}.")
        if self.spans is not None:
            _expect_grid(where, self.spans, self.maps.shape[1:])
        if self.evidence is not None:
            expect_shape(f"{where}: evidence", self.evidence, self.maps.shape[1:])
        if self.evidence is None and (self.judged or self.beats is not None):
            raise InputError(f"{where}: expected no verdict without evidence, got {self.judged[:50]!r}.")
        if self.n_layer is not None and not 1 <= self.n_layer <= _DEEPEST:
            raise InputError(f"{where}: expected 1 to {_DEEPEST} blocks, got {self.n_layer}.")
        if self.score is not None and not abs(self.score) <= HIGHEST_NUMBER:
            raise InputError(f"{where}: expected a finite log-probability or None, got {self.score}.")


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageCase:
    """One image, the question about it, and what each model made of it.

    Raises:
        InputError: the fields do not fit one another.
    """

    title: str
    """What the image is called, e.g. its file name."""
    image: UInt8[np.ndarray, "H W 3"]
    """The image itself in its true aspect, RGB; see `fit_image` for a size that suits a figure."""
    image_hash: str
    """SHA-256 of the original image."""
    prompt: str
    """What the models were asked."""
    spans: GridSpans
    """Where the patches lie."""
    true_map: Float[np.ndarray, "R C"]
    """The map of the true pixels."""
    true_limits: tuple[float, float]
    """Colour limits of `true_map`."""
    models: tuple[ModelCase, ...]
    """One to eight models."""
    truth: str | None = None
    """The right answer, where it is known."""
    difference_limit: float | None = None
    """Half the width of the colour scale of the models' difference; None is that of the shown layers alone."""
    pair: tuple[int, int] = (0, 1)
    """The models whose difference is shown, the first minus the second."""
    word: str | None = None
    """What the models' evidence is for, in words; None where none is shown."""
    kept: Extent | None = None
    """A place that the reader kept, outlined in every picture, as fractions of the image; None for none."""

    def __post_init__(self):
        expect_words(self)
        where = f"image {self.title!r}"
        if self.difference_limit is not None and not 0 < self.difference_limit < np.inf:
            raise InputError(f"{where}: expected a difference_limit above 0, got {self.difference_limit}.")
        expect_shape(f"{where}: image", self.image, (None, None, 3))
        expect_shape(f"{where}: true_map", self.true_map, (None, None))
        _expect_grid(where, self.spans, self.true_map.shape)
        if self.kept is not None:
            expect_extent(where, self.kept)
        expect_limits(f"{where}: true_limits", np.asarray([self.true_limits], dtype=np.float64))
        if not 1 <= len(self.models) <= FIGURE_MODELS:
            raise InputError(
                f"{where}: expected 1 to {FIGURE_MODELS} models in a figure, got {len(self.models)}; draw several "
                "figures."
            )
        for model in self.models:
            _expect_grid(f"{where}: model {model.name!r}", self.spans_of(model), model.maps.shape[1:])
        names = [clean(model.name) for model in self.models]
        if len(set(names)) < len(names):
            raise InputError(
                f"{where}: expected models of different names, got {', '.join(names)}; a reader could not tell the "
                "rows apart."
            )
        with_evidence = [model.evidence is not None for model in self.models]
        if with_evidence != [self.word is not None] * len(self.models):
            raise InputError(
                f"{where}: expected evidence of every model with a word, and of none without; got the word "
                f"{self.word!r} and evidence of {sum(with_evidence)} of {len(self.models)} models."
            )

    @property
    def subtracted(self) -> tuple[ModelCase, ModelCase]:
        """The models whose difference is shown.

        Raises:
            InputError: there are not both of them.
        """
        first, second = self.pair
        if first == second or not (0 <= first < len(self.models) and 0 <= second < len(self.models)):
            raise InputError(
                f"image {self.title!r}: expected two models for a difference, got models {first} and {second} of "
                f"{len(self.models)}."
            )
        return self.models[first], self.models[second]

    def spans_of(self, model: ModelCase) -> GridSpans:
        """Where a model's patches lie on the image."""
        return model.spans or self.spans

    @property
    def aspect(self) -> float:
        """Width over height of the image."""
        return self.image.shape[1] / self.image.shape[0]

    @property
    def uniform(self) -> bool:
        """Whether the image has one colour alone, so that R² and correlations are not defined."""
        return bool((self.image == self.image[0, 0]).all())


@dataclass(frozen=True, kw_only=True, eq=False)
class FigureSpec:
    """A whole figure. Drawing the same spec again gives the same bytes.

    Raises:
        InputError: an option is unknown, or the limits are not what `scale` says they are.
    """

    images: tuple[ImageCase, ...]
    """One block of the figure each, in order."""
    map_kind: str = "distance"
    """What the maps show: a key of `MAP_KINDS`, or words of your own."""
    scale: str = "shared"
    """How the limits were chosen: one of `SCALES`."""
    style: str = "default"
    """The layout: one of `STYLES`."""
    colormap: str | None = None
    """One of `COLORMAPS`, or any other of matplotlib's; None is viridis, and jet in the paper's style."""
    difference: bool = False
    """Whether to show the difference of the maps of two models (`ImageCase.pair`), layer by layer."""
    notes: tuple[str, ...] = ()
    """Further lines for the footer."""
    font_scale: float = 1.0
    """Type this much larger on the same width of paper, 0.6 to 1.3; the pictures have what is left."""

    def __post_init__(self):
        if not self.images:
            raise InputError("expected at least one image to draw, got none.")
        expect_words(self)
        if not _SMALLEST_TYPE <= self.font_scale <= _LARGEST_TYPE:
            raise InputError(
                f"expected a font_scale of {_SMALLEST_TYPE} to {_LARGEST_TYPE}, got {self.font_scale}."
            )
        maps = sum(len(model.layers) for case in self.images for model in case.models)
        if max(maps, len(self.images), len(self.notes)) > _MOST:
            raise InputError(
                f"expected at most {_MOST} maps, images or notes in a figure, got {maps} maps of {len(self.images)} "
                f"images and {len(self.notes)} notes; draw several figures."
            )
        for name, value, known in (("style", self.style, STYLES), ("scale", self.scale, SCALES)):
            if value not in known:
                raise InputError(f"unknown {name} {value[:60]!r}; expected one of {', '.join(known)}.")
        require_colormap(self.color_table)
        for case in self.images:
            self._check_scale(case)
            if self.difference:
                common_layers(case)

    def _check_scale(self, case: ImageCase) -> None:
        """Refuse limits that break the promise which the figure makes about its colours."""
        ranges = [model.limits for model in case.models]
        if self.scale in ONE_SCALE:
            ranges = [np.concatenate([np.asarray([case.true_limits]), *ranges])]
        if self.scale == "per_map":
            return
        for limits in ranges:
            if not np.allclose(limits, limits[:1], rtol=1e-5, atol=0):
                whose = "all maps of an image" if self.scale in ONE_SCALE else "all maps of a model"
                raise InputError(
                    f"image {case.title!r}: scale={self.scale!r} says that {whose} have the same colour "
                    f"limits, but they range from {limits.min(axis=0)} to {limits.max(axis=0)}; pass limits that are "
                    "shared, or scale='per_map'."
                )

    @property
    def color_table(self) -> str:
        """The colormap that is drawn with."""
        return self.colormap or ("jet" if self.style == "paper" else "viridis")

    def limits(self, case: ImageCase, model: ModelCase) -> list[Limits]:
        """The colour limits of each map of a model, as every picture of this spec draws them."""
        if self.scale in ONE_SCALE:
            return [case.true_limits] * len(model.layers)
        shown = model.limits if self.scale == "per_map" else [model.limits[0]] * len(model.layers)
        return [(float(low), float(high)) for low, high in shown]

    @property
    def map_label(self) -> str:
        """What the colour bar says."""
        return MAP_KINDS.get(self.map_kind, self.map_kind)


def common_layers(case: ImageCase) -> tuple[int, ...]:
    """The layers that both models of a difference show.

    Raises:
        InputError: there are not two models with a layer and a patch grid in common.
    """
    first, second = case.subtracted
    one, other = (case.spans_of(model) for model in (first, second))
    if not one.equals(other):
        alike = (one.grid, one.extent) == (other.grid, other.extent)
        within = " (their patches lie elsewhere within it)" if alike else ""
        raise InputError(
            f"image {case.title!r}: {first.name} has a patch grid of {one.grid} over {one.extent} and "
            f"{second.name} of {other.grid} over {other.extent}{within}; a difference needs the same one."
        )
    common = tuple(layer for layer in first.layers if layer in second.layers)
    if not common:
        raise InputError(
            f"image {case.title!r}: {first.name} shows layers {first.layers} and {second.name} "
            f"{second.layers}; a difference needs at least one in common."
        )
    return common


def map_change(case: ImageCase) -> tuple[tuple[int, ...], Float[np.ndarray, "Y R C"]]:
    """First model's map minus the second's, for the layers both show.

    Returns:
        The layers, and the differences of the raw map values.
    """
    layers = common_layers(case)
    first, second = (model.maps[[model.layers.index(layer) for layer in layers]] for model in case.subtracted)
    return layers, first - second


def rms(values: Float[np.ndarray, "*shape"]) -> float:
    """Root mean square of the finite values; NaN when there are none."""
    finite = values[np.isfinite(values)].astype(np.float64)
    return float(np.sqrt((finite**2).mean())) if finite.size else float("nan")


def difference_limits(case: ImageCase) -> Limits:
    """The colour limits of a difference, the same at all layers and centred on zero."""
    half = case.difference_limit
    if half is None:
        half = difference_limit(
            map_change(case)[1], Rest(low=0.0, high=UNSEEN_DIFFERENCE, seen=UNSEEN_DIFFERENCE)
        )
    return -half, half


def _expect_grid(where: str, spans: GridSpans, grid: tuple[int, ...]) -> None:
    if spans.grid != grid:
        raise InputError(f"{where}: expected spans of the {grid} patches of its maps, got {spans.grid}.")


def layer_label(layer: int) -> str:
    """'layer 4', or 'embedding' for the input of block 0."""
    return "embedding" if layer < 0 else f"layer {layer}"


def layers_said(layers: Iterable[int]) -> str:
    """Some layers in words: "the embedding and layers 3, 4"."""
    layers = list(layers)
    blocks = [str(layer) for layer in layers if layer >= 0]
    parts = ["the embedding"] * (len(blocks) < len(layers))
    parts += [f"layer{'s' * (len(blocks) > 1)} {', '.join(blocks)}"] * bool(blocks)
    return " and ".join(parts)


def marked_label(model: ModelCase, layer: int) -> str:
    """The same as the heading of a model's column, which a mark follows where its map does not beat a control."""
    return layer_label(layer) + (f" {WEAK_MARK}" if layer in model.marked else "")
