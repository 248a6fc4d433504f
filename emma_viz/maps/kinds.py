"""The four kinds of map, on plain arrays: one number per patch from its decoded (and its true) pixels.

`distance`   L2 distance of a patch to the median patch of its image. Objects stand out from a background.
`magnitude`  L2 norm of a patch in the decoder's own units (x − 0.5)/0.25: the paper's Figure 1.
`error`      L2 distance of the decoded patch to the true one. 0 is perfect.
`cosine`     cosine between the decoded and the true patch after the median patch of the TRUE image is taken
             from both: does the patch differ from a typical one in the way that it should? 1 is perfect, 0 is
             unrelated. Two patches that are both typical (no difference) agree: 1; only one of them: 0.

The median patch is the median over the image's patches of each pixel and channel. Pixels are in [0, 1],
unclipped.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float32

from emma_viz.heads.pixels import PIXEL_MEAN, PIXEL_STD
from emma_viz.maps.scale import FAINT_DIFFERENCE, UNSEEN_DIFFERENCE, Rest

MapKind = Literal["distance", "magnitude", "error", "cosine"]

COMPARES_WITH_TRUTH: tuple[MapKind, ...] = ("error", "cosine")
"""Kinds whose map of the true pixels is constant (0 or 1), so that nothing can correlate with it."""


def patch_map(
    kind: MapKind, decoded: Float32[np.ndarray, "T p p c"], true: Float32[np.ndarray, "T p p c"]
) -> Float32[np.ndarray, "T"]:
    """One value per patch of one image.

    Args:
        decoded: the patches to map; pass the true ones for the map of the true pixels.
        true: the true patches; `distance` and `magnitude` do not look at them.

    Returns:
        The map, unscaled; NaN where the decoded patch is not finite.
    """
    flat, truth = _flat(decoded), _flat(true)
    if kind == "distance":
        values = np.linalg.norm(flat - median_patch(flat), axis=1)
    elif kind == "magnitude":
        values = np.linalg.norm((flat - PIXEL_MEAN) / PIXEL_STD, axis=1)
    elif kind == "error":
        values = np.linalg.norm(flat - truth, axis=1)
    else:
        values = _cosine(flat, truth)
    return values.astype(np.float32)


def rest_of(kind: MapKind, n: int) -> Rest:
    """How maps of a kind are shown where they hardly differ; `n` is how many numbers a patch has.

    A distance rests at 0. The smallest that counts is that of patches which differ by `UNSEEN` everywhere, and a flat
    map's scale goes as far as `FAINT` at least.
    """
    if kind == "cosine":
        return Rest(low=-1.0, high=1.0, seen=2 * UNSEEN_DIFFERENCE)
    length = n**0.5 / (PIXEL_STD if kind == "magnitude" else 1)
    return Rest(low=0.0, high=FAINT_DIFFERENCE * length, seen=UNSEEN_DIFFERENCE * length)


def median_patch(flat: np.ndarray) -> np.ndarray:
    """Median over the finite patches ("T n" → "n"); zeros when no patch is finite."""
    finite = flat[np.isfinite(flat).all(axis=1)]
    return np.median(finite, axis=0) if len(finite) else np.zeros(flat.shape[1])


def _cosine(flat: np.ndarray, truth: np.ndarray) -> np.ndarray:
    median = median_patch(truth)
    decoded, true = flat - median, truth - median
    lengths = np.linalg.norm(decoded, axis=1), np.linalg.norm(true, axis=1)
    typical = tuple(length < 1e-6 * np.sqrt(flat.shape[1]) for length in lengths)
    product = lengths[0] * lengths[1]
    cosine = (decoded * true).sum(axis=1) / np.where(product > 0, product, 1.0)
    cosine = np.where(typical[0] & typical[1], 1.0, np.where(typical[0] | typical[1], 0.0, cosine))
    return np.where(np.isnan(lengths[0]), np.nan, np.clip(cosine, -1.0, 1.0))


def _flat(patches: np.ndarray) -> np.ndarray:
    """Patches as float64 rows, so that a constant image has distances of exactly zero; infinities become
    NaN."""
    flat = patches.reshape(len(patches), -1).astype(np.float64)
    flat[~np.isfinite(flat).all(axis=1)] = np.nan
    return flat
