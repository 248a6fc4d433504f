"""How well decoded pixels match the true ones: R², PSNR, SSIM and correlation on plain arrays.

Pixels are in [0, 1]. R² is taken on the values as decoded; PSNR and SSIM on the image as it would be
shown, that is clipped to [0, 1].
"""

import math

import numpy as np
from jaxtyping import Float, Num

_Sums = float | int | np.ndarray | np.floating
"""One sum, or one an image."""


def r2(decoded: Float[np.ndarray, "... c"], true: Float[np.ndarray, "... c"]) -> float:
    """Share of the pixel variance that the decoding explains, pooled over everything passed.

    R² = 1 − Σ(decoded − true)² / Σ(true − m_c)², both sums over all images, patches, pixels and channels;
    m_c is the mean of colour channel c over all of them. A decoder that shows that one mean colour has
    R² = 0. The denominator depends on the true pixels alone, so models that see the same pixels are
    measured on one scale. Pass one image for its own R². Pixels may be on any scale, both on the same.

    Returns:
        R², at most 1 and unbounded below; NaN when the true pixels are constant or a value is not finite.
    """
    true = np.asarray(true, np.float64)
    centred = true - true.reshape(-1, true.shape[-1]).mean(axis=0)
    total = float(np.square(centred).sum())
    residual = float(np.square(np.asarray(decoded, np.float64) - true).sum())
    return float(r2_of_sums(residual, total, true.size))


def r2_of_sums(residual: _Sums, total: _Sums, count: _Sums) -> np.ndarray:
    """R² from the two sums of squares over `count` numbers, or of several such at once, element by element.

    Returns:
        R²; NaN when the true pixels are constant (to rounding) or a sum is not finite.
    """
    residual, total = np.asarray(residual, np.float64), np.asarray(total, np.float64)
    defined = np.isfinite(residual) & np.isfinite(total) & (total > 1e-12 * np.asarray(count))
    shares = np.divide(
        residual, total, out=np.full(np.broadcast(residual, total).shape, np.nan), where=defined
    )
    return np.asarray(1.0 - shares)


def psnr(decoded: Float[np.ndarray, "H W c"], true: Float[np.ndarray, "H W c"]) -> float:
    """Peak signal-to-noise ratio of one image in dB; infinite for a perfect image.

    Pixels are in [0, 1], so the peak is 1; what was decoded beyond is clipped.
    """
    error = float(np.square(_shown(decoded) - np.asarray(true, np.float64)).mean())
    if error == 0.0:
        return math.inf
    return -10.0 * math.log10(error) if math.isfinite(error) else math.nan


def ssim(decoded: Float[np.ndarray, "H W c"], true: Float[np.ndarray, "H W c"]) -> float:
    """Structural similarity of one image (scikit-image: uniform 7×7 window, channels averaged).

    Pixels are in [0, 1]; what was decoded beyond is clipped.

    Returns:
        SSIM in [-1, 1]; NaN when a side is shorter than the window or a value is not finite.
    """
    shown = _shown(decoded)
    if min(shown.shape[:2]) < 7 or not np.isfinite(shown).all():
        return math.nan
    from skimage.metrics import structural_similarity  # slow to import, and only needed here

    return float(structural_similarity(shown, np.asarray(true, np.float64), data_range=1.0, channel_axis=-1))


def correlation(a: Num[np.ndarray, "..."], b: Num[np.ndarray, "..."]) -> float:
    """Pearson correlation of two maps of one shape over the cells where both are finite.

    Returns:
        The correlation in [-1, 1]; NaN with fewer than two such cells, or when either map is constant there.
    """
    a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    if a.size < 2 or _constant(a) or _constant(b):
        return math.nan
    a, b = a - a.mean(), b - b.mean()
    value = float((a / np.linalg.norm(a)) @ (b / np.linalg.norm(b)))
    return min(1.0, max(-1.0, value))


def _constant(values: np.ndarray) -> bool:
    """Whether all values are equal up to float32 rounding, so that their variation is noise."""
    return float(np.ptp(values)) <= 1e-6 * float(np.abs(values).max(initial=0.0))


def _shown(decoded: np.ndarray) -> np.ndarray:
    return np.clip(np.asarray(decoded, np.float64), 0.0, 1.0)
