"""The quality of a lens on held-out images, gathered a batch at a time."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
from einops import rearrange
from jaxtyping import Float

from emma_viz.errors import LensError
from emma_viz.lens.info import LayerQuality
from emma_viz.lens.protocol import Lens
from emma_viz.metrics.quality import psnr, r2_of_sums, ssim
from emma_viz.shapes import CHANNELS

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
    """R² over all pixels of all images, mean PSNR and mean SSIM, per layer.

    Args:
        layers: of the decodings that will be added.
        grid: rows and columns of patches.
    """

    def __init__(self, layers: Sequence[int], grid: tuple[int, int]):
        self.layers, self.grid = tuple(layers), grid
        self.n_images = 0
        self._residual = dict.fromkeys(self.layers, 0.0)
        self._psnr: dict[int, list[float]] = {layer: [] for layer in self.layers}
        self._ssim: dict[int, list[float]] = {layer: [] for layer in self.layers}
        # Moments of the true pixels per colour channel, about 0.5 so that no digits are lost.
        self._count, self._sum, self._squares = 0, np.zeros(CHANNELS), np.zeros(CHANNELS)

    def add_true(self, true: Float[np.ndarray, "B T p p c"]) -> None:
        """Add the true patches of a batch, pixels in [0, 1], once for all layers."""
        centred = true.reshape(-1, CHANNELS).astype(np.float64) - 0.5
        self.n_images += len(true)
        self._count += len(centred)
        self._sum += centred.sum(axis=0)
        self._squares += np.square(centred).sum(axis=0)

    def add_layer(
        self, layer: int, decoded: Float[np.ndarray, "B T p p c"], true: Float[np.ndarray, "B T p p c"]
    ) -> None:
        """Add one layer's decoding of the batch.

        Args:
            layer: one of the gatherer's.
            decoded: on the scale of [0, 1], not clipped.
            true: the pixels of the same images in [0, 1].
        """
        self._residual[layer] += float(np.square(decoded.astype(np.float64) - true).sum())
        for each, truth in zip(self._images(decoded), self._images(true), strict=True):
            self._psnr[layer].append(psnr(each, truth))
            self._ssim[layer].append(ssim(each, truth))

    def result(self) -> tuple[LayerQuality, ...]:
        """The quality of every layer.

        Raises:
            LensError: no image was added.
        """
        if not self.n_images:
            raise LensError("The quality of a lens needs held-out images, and none came.")
        total = float((self._squares - self._sum**2 / self._count).sum())
        return tuple(
            LayerQuality(
                layer=layer,
                r2=float(r2_of_sums(self._residual[layer], total, self._count * CHANNELS)),
                psnr=float(np.mean(self._psnr[layer])),
                ssim=float(np.mean(self._ssim[layer])),
            )
            for layer in self.layers
        )

    def _images(self, patches: np.ndarray) -> np.ndarray:
        return rearrange(patches, "b (R C) i j c -> b (R i) (C j) c", R=self.grid[0])


def with_quality(lens: AnyLens, decodings: Iterable[Decoded]) -> AnyLens:
    """The lens with its quality on these decodings, made by it from images that it was not fitted on.

    Args:
        lens: a dataclass, as all lenses that have a file are.
        decodings: batches, all with the same layers and grid.

    Raises:
        LensError: there are no decodings, or their layers differ.
    """
    quality, n_images = quality_of(decodings)
    return replace(cast(Any, lens), info=replace(lens.info, quality=quality, n_heldout=n_images))


def quality_of(decodings: Iterable[Decoded]) -> tuple[tuple[LayerQuality, ...], int]:
    """The quality of a lens from decodings of images that it was not fitted on.

    Args:
        decodings: batches, all with the same layers and grid.

    Returns:
        (quality per layer, number of images), for `LensInfo.quality` and `LensInfo.n_heldout`.

    Raises:
        LensError: there are no decodings, or their layers differ.
    """
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
    return gatherer.result(), gatherer.n_images
