"""How vectors lie: in how many directions, round which mean, and how alike neighbours on a grid are."""

import numpy as np
from jaxtyping import Float


def effective_rank(vectors: Float[np.ndarray, "n D"]) -> float:
    """exp of the entropy of the singular values of the centred vectors (Roy & Vetterli 2007).

    Returns:
        k for k directions of equal spread; NaN where nothing varies or a value is not finite.
    """
    if not np.isfinite(vectors).all():
        return float("nan")
    centred = vectors.astype(np.float64)
    centred = centred - centred.mean(axis=0)
    values = np.linalg.svd(centred, compute_uv=False)
    total = values.sum()
    if total <= 1e-12 * max(np.abs(vectors).max(initial=0.0), 1.0):
        return float("nan")
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def intrinsic_dimension(vectors: Float[np.ndarray, "n D"], *, discarded: float = 0.1) -> float:
    """How many numbers tell neighbouring vectors apart, straight or bent (TwoNN; Facco et al. 2017).

    From the ratio of each vector's distances to its second and its first neighbour, n / Σ ln(r₂ / r₁) with the largest
    ratios left out and the tail counted as they are: of k of n ratios, k / (Σ_k ln μ + (n − k) ln μ_k).

    Args:
        vectors: one a row; equal ones are taken once.
        discarded: the share of the ratios, the largest, that are only known to be larger.

    Returns:
        About d for points spread over d dimensions. NaN for fewer than ten different vectors, or where a value is not
        finite.
    """
    if not np.isfinite(vectors).all():
        return float("nan")
    points = np.unique(vectors.astype(np.float64), axis=0)
    if len(points) < 10:
        return float("nan")
    points = points - points.mean(axis=0)
    squares = np.square(points).sum(axis=1)
    apart = np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0.0)
    np.fill_diagonal(apart, np.inf)
    near, next_near = np.partition(apart, 1, axis=1)[:, :2].T
    known = near > 1e-12 * squares.mean()  # nearer than what the difference of squares can tell
    logs = np.sort(0.5 * np.log(next_near[known] / near[known]))
    kept = max(1, round(len(logs) * (1 - discarded)))
    total = logs[:kept].sum() + (len(logs) - kept) * logs[kept - 1] if len(logs) else 0.0
    return float(kept / total) if total > 0 else float("nan")


def anisotropy(vectors: Float[np.ndarray, "n D"]) -> float:
    """Mean cosine of two different vectors (Ethayarajh 2019): 0 for directions spread evenly, 1 for one direction.

    Returns:
        NaN for fewer than two vectors that are not 0.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    known = lengths[:, 0] > 0
    if known.sum() < 2:
        return float("nan")
    unit = vectors[known].astype(np.float64) / lengths[known]
    n = len(unit)
    return float((np.square(unit.sum(axis=0)).sum() - n) / (n * (n - 1)))


def rogue_share(vectors: Float[np.ndarray, "n D"], count: int = 3) -> float:
    """The share of the mean squared length that the largest few dimensions hold (Timkey & van Schijndel 2021)."""
    power = np.square(vectors.astype(np.float64)).mean(axis=0)
    total = power.sum()
    return float(np.sort(power)[::-1][:count].sum() / total) if total > 0 else float("nan")


def morans_i(vectors: Float[np.ndarray, "n D"], grid: tuple[int, int]) -> float:
    """Moran's I of vectors on a grid, rook neighbours: the mean over principal axes, weighted by their variance.

    Args:
        vectors: row-major over the grid.
        grid: rows and columns.

    Returns:
        Near 1 for smooth, −1/(n−1) in the mean for shuffled, −1 for a chessboard; NaN where nothing varies.
    """
    rows, columns = grid
    field = vectors.astype(np.float64)
    field = (field - field.mean(axis=0)).reshape(rows, columns, -1)
    power = np.square(field).sum()
    # The weighted mean over orthogonal axes is the trace: no axes need be found.
    pairs = rows * (columns - 1) + columns * (rows - 1)
    crossed = (field[:, 1:] * field[:, :-1]).sum() + (field[1:] * field[:-1]).sum()
    return (
        float(field.shape[0] * field.shape[1] / pairs * crossed / power)
        if power > 0 and pairs
        else float("nan")
    )
