"""How alike two sets of vectors of the same things are: kernel alignment without its bias, and shared neighbours."""

import numpy as np
from jaxtyping import Float

from emma_viz.errors import InputError


def hsic(
    first: Float[np.ndarray, "n D1"], second: Float[np.ndarray, "n D2"], *, kernels: bool = False
) -> float:
    """HSIC₁, the unbiased estimate of how two linear kernels depend (Song et al. 2012, eq. 5).

    Args:
        first: one vector a row; with `kernels`, its (n, n) matrix of inner products.
        second: the same things, in the same order.
        kernels: whether the matrices are inner products already.

    Returns:
        Its mean over draws is 0 for independent vectors; it may be negative.

    Raises:
        InputError: fewer than four things, or two numbers of them.
    """
    if len(first) != len(second) or len(first) < 4:
        raise InputError(
            f"expected vectors of the same four things or more, got {len(first)} and {len(second)}."
        )
    one, two = (first, second) if kernels else (gram(first), gram(second))
    n = len(one)
    rows_one, rows_two = one.sum(axis=1), two.sum(axis=1)
    found = (
        np.vdot(one, two)
        + rows_one.sum() * rows_two.sum() / ((n - 1) * (n - 2))
        - 2 * rows_one @ rows_two / (n - 2)
    )
    return float(found / (n * (n - 3)))


def gram(vectors: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n n"]:
    """Inner products, float64, the diagonal 0: what `hsic` takes with `kernels`."""
    centred = vectors.astype(np.float64)
    centred = centred - centred.mean(axis=0)  # moves no HSIC, and keeps large means out of its differences
    products = centred @ centred.T
    np.fill_diagonal(products, 0.0)
    return products


def cka(first: Float[np.ndarray, "n D1"], second: Float[np.ndarray, "n D2"]) -> float:
    """Centred kernel alignment of HSIC₁ (Nguyen et al. 2021): 1 for vectors that differ by a rotation and a scale.

    Returns:
        About 0 for independent vectors, whatever their width (the usual estimate, which is biased, gives .8 for 60
        vectors of 200 dimensions). NaN where one set does not vary.
    """
    return alignment(hsic(first, second), hsic(first, first), hsic(second, second))


def alignment(
    both: np.ndarray | np.floating | float,
    first: np.ndarray | np.floating | float,
    second: np.ndarray | np.floating | float,
):
    """Alignment from HSIC₁ (or its sums over batches) of two sets, and of each with itself; NaN where one is 0."""
    scale = np.sqrt(np.maximum(first, 0.0) * np.maximum(second, 0.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, both / np.where(scale > 0, scale, 1.0), np.nan)[()]


def shared_neighbours(
    first: Float[np.ndarray, "n D1"], second: Float[np.ndarray, "n D2"], count: int = 10
) -> float:
    """Mutual nearest neighbours by cosine (Huh et al. 2024): the mean share of each thing's nearest that both name.

    A second opinion beside the alignment, which a few long vectors may decide: here every thing counts the same.

    Args:
        first: one vector a row.
        second: the same things, in the same order.
        count: how many neighbours; at most n − 2 are asked for.

    Returns:
        1 for vectors that differ by a rotation and a scale, about count / (n − 1) for independent ones. NaN where a
        value is not finite or a vector is 0.

    Raises:
        InputError: fewer than four things, or two numbers of them.
    """
    if len(first) != len(second) or len(first) < 4:
        raise InputError(
            f"expected vectors of the same four things or more, got {len(first)} and {len(second)}."
        )
    count = min(count, len(first) - 2)
    one, two = (_nearest(each, count) for each in (first, second))
    if one is None or two is None:
        return float("nan")
    return float((one & two).sum() / (len(first) * count))


def _nearest(vectors: np.ndarray, count: int) -> np.ndarray | None:
    """Which are each one's nearest by cosine, (n, n) bool; None where that is not defined."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        return None
    unit = vectors / lengths
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    chosen = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
    found = np.zeros(cosines.shape, bool)
    np.put_along_axis(found, chosen, True, axis=1)
    return found
