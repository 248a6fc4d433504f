"""Specks: isolated patches that stand out of a map, how many pieces a map falls into, and maps alike but for that."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import maximum_filter, uniform_filter

THRESHOLDS = 32
"""Quantiles of an Euler curve."""
LOUD = 4.0
"""A speck is so many median deviations above the median, or more."""


def specks(field: Float[np.ndarray, "R C"]) -> Bool[np.ndarray, "R C"]:
    """Highest of its 3×3 cells, LOUD median deviations above the median, its neighbours' mean below half of that.

    Heights are above the median. Nothing in a constant map.
    """
    height = field - np.median(field)
    spread = np.median(np.abs(height))
    around = (9 * uniform_filter(height, 3, mode="nearest") - height) / 8
    highest = height == maximum_filter(height, 3, mode="nearest")
    return highest & (height > LOUD * spread) & (height > 0) & (around < height / 2)


def euler(cells: Bool[np.ndarray, "R C"]) -> int:
    """Pieces less holes, cells that touch at a corner being one piece: from bit quads (Gray 1971)."""
    padded = np.pad(cells, 1)
    quads = np.stack([padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]])
    count = quads.sum(axis=0)
    diagonal = (count == 2) & (quads[0] == quads[3])
    return int((np.sum(count == 1) - np.sum(count == 3) - 2 * np.sum(diagonal)) // 4)


def euler_curve(field: Float[np.ndarray, "R C"], thresholds: int = THRESHOLDS) -> Float[np.ndarray, " k"]:
    """The Euler characteristic of what lies above each quantile, from low to high: specks are many pieces."""
    levels = np.quantile(field, np.arange(1, thresholds + 1) / (thresholds + 1))
    return np.array([euler(field > level) for level in levels], dtype=np.float64)


def surrogate(
    field: Float[np.ndarray, "*k R C"], *, seed: int, steps: int = 100
) -> Float[np.ndarray, "*k R C"]:
    """Random maps of the same values and, nearly, the same power spectra (IAAFT; Schreiber & Schmitz 1996).

    Args:
        field: one map, or several, each of which becomes what it would become alone.
        seed: of the order that each begins from.
        steps: of the search.
    """
    maps = field.reshape(-1, *field.shape[-2:])
    values, size = np.sort(maps.reshape(len(maps), -1), axis=1), np.abs(np.fft.fft2(maps))
    order = np.random.default_rng(seed).permutation(values.shape[1])
    found = maps.reshape(len(maps), -1)[:, order].reshape(maps.shape)
    for _ in range(steps):
        phase = np.angle(np.fft.fft2(found))
        turned = np.fft.ifft2(size * np.exp(1j * phase)).real.reshape(values.shape)
        found = np.empty(values.shape)
        np.put_along_axis(found, np.argsort(turned, axis=1, kind="stable"), values, axis=1)
        found = found.reshape(maps.shape)
    return found.reshape(field.shape)
