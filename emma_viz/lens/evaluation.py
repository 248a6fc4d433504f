"""The quality of a lens on held-out images, and that of its controls, gathered a batch at a time."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
from einops import rearrange
from jaxtyping import Float

from emma_viz.errors import LensError
from emma_viz.lens.controls import LayerControl, against_control
from emma_viz.lens.info import LayerQuality
from emma_viz.lens.protocol import Lens
from emma_viz.metrics.quality import psnr, ssim
from emma_viz.metrics.sums import joined_columns, pooled_r2, squared_errors, truth_columns

AnyLens = TypeVar("AnyLens", bound=Lens)


@runtime_checkable
class Decoded(Protocol):
    """What a lens decoded of a batch of held-out images, beside the truth; `emma_viz.maps.Decoding` is one."""

    @property
    def patches(self) -> Float[np.ndarray, "Y B T p p c"]:
        """On the scale of [0, 1], NOT clipped."""
        ...

    @property
    def true(self) -> Float[np.ndarray, "B T p p c"]:
        """What the model saw there."""
        ...

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers of axis Y."""
        ...

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the tokens."""
        ...


class QualityGatherer:
    """R² over all pixels of all images, mean PSNR and mean SSIM, per layer; and whether the R² beats its controls.

    Memory: two bytes a number of the true pixels of all images, which the control of the place needs.

    Args:
        layers: of the decodings that will be added.
        grid: rows and columns of patches; None where they differ from image to image, which leaves SSIM and, of images
            of several shapes, the control of the place unmeasured.
    """

    def __init__(self, layers: Sequence[int], grid: tuple[int, int] | None):
        self.layers, self.grid = tuple(layers), grid
        self.n_images = 0
        self._errors: dict[int, list[np.ndarray]] = {layer: [] for layer in self.layers}
        self._psnr: dict[int, list[float]] = {layer: [] for layer in self.layers}
        self._ssim: dict[int, list[float]] = {layer: [] for layer in self.layers}
        self._truth: list[dict[str, np.ndarray]] = []
        self._pixels: list[np.ndarray] = []

    def add_true(self, true: Float[np.ndarray, "B T p p c"]) -> None:
        """Add the true patches of a batch, pixels in [0, 1], once for all layers."""
        self.n_images += len(true)
        self._truth.append(truth_columns(true))
        self._pixels.append(true.astype(np.float16))

    def add_layer(
        self, layer: int, decoded: Float[np.ndarray, "B T p p c"], true: Float[np.ndarray, "B T p p c"]
    ) -> None:
        """Add one layer's decoding of the batch.

        Args:
            layer: one of the gatherer's.
            decoded: on the scale of [0, 1], not clipped.
            true: the pixels of the same images in [0, 1].
        """
        self._errors[layer].append(squared_errors(decoded, true))
        for each, truth in zip(self._images(decoded), self._images(true), strict=True):
            self._psnr[layer].append(psnr(each, truth))
            self._ssim[layer].append(ssim(each, truth) if self.grid else float("nan"))

    def result(self) -> tuple[LayerQuality, ...]:
        """The quality of every layer.

        Raises:
            LensError: no image was added.
        """
        if not self.n_images:
            raise LensError("The quality of a lens needs held-out images, and none came.")
        truth = joined_columns(self._truth)
        sums = {name: column.sum() for name, column in truth.items()}
        return tuple(
            LayerQuality(
                layer=layer,
                r2=float(pooled_r2({**sums, "residual": self.errors(layer).sum()})),
                psnr=float(np.mean(self._psnr[layer])),
                ssim=float(np.mean(self._ssim[layer])),
            )
            for layer in self.layers
        )

    def errors(self, layer: int) -> Float[np.ndarray, " n"]:
        """The squared error of each image at a layer, in the order in which they were added."""
        return np.concatenate(self._errors[layer])

    def controls(self) -> tuple[LayerControl, ...]:
        """How every layer compares with its controls; none of fewer than two images, or of several shapes."""
        if self.n_images < 2 or len({batch.shape[1:] for batch in self._pixels}) > 1:
            return ()
        truth, place = joined_columns(self._truth), self._place_errors()
        return tuple(
            against_control(
                layer, "place", {**truth, "residual": self.errors(layer)}, {**truth, "residual": place}
            )
            for layer in self.layers
        )

    def _place_errors(self) -> Float[np.ndarray, " n"]:
        """The squared error of the mean of all images, image by image.

        Each image is in that mean: of all that could be shown without a state, nothing has less error in all, so that a
        lens that sees no state cannot beat it, however few the images are.
        """
        mean = sum(batch.sum(axis=0, dtype=np.float64) for batch in self._pixels) / self.n_images
        return np.concatenate(
            [squared_errors(batch, np.broadcast_to(mean, batch.shape)) for batch in self._pixels]
        )

    def _images(self, patches: np.ndarray) -> np.ndarray:
        # PSNR is the same however the patches lie.
        return rearrange(patches, "b (R C) i j c -> b (R i) (C j) c", R=self.grid[0] if self.grid else 1)


def with_quality(lens: AnyLens, decodings: Iterable[Decoded]) -> AnyLens:
    """The lens with its quality, and its controls', on these decodings of images that it was not fitted on.

    Args:
        lens: a dataclass, as all lenses that have a file are.
        decodings: batches, all with the same layers and grid.

    Raises:
        LensError: there are no decodings, or their layers differ.
    """
    return measured_by(lens, _gathered(decodings))


def measured_by(lens: AnyLens, gatherer: QualityGatherer) -> AnyLens:
    """The lens with what was gathered of its decodings.

    Raises:
        LensError: no image was.
    """
    info = replace(
        lens.info,
        quality=gatherer.result(),
        controls=gatherer.controls(),
        n_heldout=gatherer.n_images,
    )
    return replace(cast(Any, lens), info=info)


def quality_of(decodings: Iterable[Decoded]) -> tuple[tuple[LayerQuality, ...], int]:
    """The quality of a lens from decodings of images that it was not fitted on.

    Args:
        decodings: batches, all with the same layers and grid.

    Returns:
        (quality per layer, number of images), for `LensInfo.quality` and `LensInfo.n_heldout`.

    Raises:
        LensError: there are no decodings, or their layers differ.
    """
    gatherer = _gathered(decodings)
    return gatherer.result(), gatherer.n_images


def _gathered(decodings: Iterable[Decoded]) -> QualityGatherer:
    gatherer = None
    for decoding in decodings:
        gatherer = gatherer or QualityGatherer(decoding.layers, decoding.grid)
        if decoding.layers != gatherer.layers:
            raise LensError(
                f"Decodings of layers {gatherer.layers} and of {decoding.layers} cannot be pooled."
            )
        gatherer.add_true(decoding.true)
        for layer, patches in zip(decoding.layers, decoding.patches, strict=True):
            gatherer.add_layer(layer, patches, decoding.true)
    if gatherer is None:
        raise LensError("The quality of a lens needs held-out images, and no decoding came.")
    return gatherer
