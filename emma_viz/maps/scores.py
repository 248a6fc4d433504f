"""How much of the picture each layer keeps: the numbers behind the retention curves."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from emma_viz.errors import InputError
from emma_viz.maps.decoding import Decoding
from emma_viz.metrics.quality import psnr, r2, ssim
from emma_viz.metrics.sums import joined_columns, pooled_r2, squared_errors, truth_columns


@dataclass(frozen=True, kw_only=True)
class ImageScore:
    """One layer's decoding of one image."""

    r2: float
    """Share of the pixel variance of this image that is explained; variance about its own mean colour."""
    psnr: float
    """dB, of the clipped image; infinite for a perfect one."""
    ssim: float
    """Structural similarity of the clipped image."""
    correlation: float
    """Pearson correlation of the map with the same map of the true pixels; NaN where it is not defined."""


@dataclass(frozen=True, kw_only=True)
class LayerScore:
    """One layer's decoding of all images."""

    layer: int
    """Zero-based block; -1 is the embedding."""
    r2: float
    """Pooled over all pixels of all images (`emma_viz.metrics.quality.r2`): variance about the images' common
    mean colour."""
    psnr: float
    """Mean over the images."""
    ssim: float
    """Mean over the images that have one."""
    correlation: float
    """Mean over the images that have one; NaN when none has."""
    images: tuple[ImageScore, ...]
    """The same, per image."""


def measure(decoding: Decoding, *, kind: str = "distance") -> tuple[LayerScore, ...]:
    """R², PSNR, SSIM and map correlation, per layer and image.

    The definitions depend on the true pixels and the decoding alone, so every model is measured alike. R²
    takes the pixels as decoded; PSNR and SSIM the image as shown, clipped to [0, 1].

    Args:
        decoding: what to measure.
        kind: the kind of map whose correlation is taken.

    Returns:
        One record per layer, in the order of `decoding.layers`.
    """
    correlations = decoding.maps(kind).correlation
    shown, truth = decoding.decoded_images(), decoding.true_images()
    scores = []
    for index, layer in enumerate(decoding.layers):
        images = tuple(
            ImageScore(
                r2=r2(decoding.patches[index, sample], decoding.true[sample]),
                psnr=psnr(shown[index, sample], truth[sample]),
                ssim=ssim(shown[index, sample], truth[sample]),
                correlation=float(correlations[index, sample]),
            )
            for sample in range(len(decoding))
        )
        scores.append(
            LayerScore(
                layer=layer,
                r2=r2(decoding.patches[index], decoding.true),
                psnr=_mean([image.psnr for image in images]),
                ssim=_mean([image.ssim for image in images]),
                correlation=_mean([image.correlation for image in images]),
                images=images,
            )
        )
    return tuple(scores)


def measure_batches(decodings: Iterable[Decoding], *, kind: str = "distance") -> tuple[LayerScore, ...]:
    """`measure` of all images of several decodings of the same layers, of which one at a time is held in memory.

    Raises:
        InputError: there is none, or they are of different layers.
    """
    found: list[tuple[LayerScore, ...]] = []
    columns: list[list[dict[str, np.ndarray]]] = []
    for each in decodings:
        found.append(measure(each, kind=kind))
        true = truth_columns(each.true)
        columns.append([{"residual": squared_errors(row, each.true), **true} for row in each.patches])
        if [score.layer for score in found[-1]] != [score.layer for score in found[0]]:
            raise InputError("expected decodings of the same layers to measure together, got others.")
    if not found:
        raise InputError("expected at least one decoding to measure, got none.")
    if len(found) == 1:
        return found[0]
    scores = []
    for of_layer, sums in zip(zip(*found, strict=True), zip(*columns, strict=True), strict=True):
        images = tuple(image for each in of_layer for image in each.images)
        whole = {name: column.sum() for name, column in joined_columns(sums).items()}
        scores.append(
            LayerScore(
                layer=of_layer[0].layer,
                r2=float(pooled_r2(whole)),
                psnr=_mean([image.psnr for image in images]),
                ssim=_mean([image.ssim for image in images]),
                correlation=_mean([image.correlation for image in images]),
                images=images,
            )
        )
    return tuple(scores)


def _mean(values: list[float]) -> float:
    """Mean of the values that are numbers; NaN when none is."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
