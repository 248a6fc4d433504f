"""Ridge regression from sums of products, judged on held-out groups without a second look at the data.

With X the states, a column of ones beside them, the error of any weights W on a group is ‖Y‖² − 2⟨W, XᵀY⟩ + ⟨W, XᵀX W⟩:
the sums of a group are all that is needed, both to fit on it and to be judged on it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from emma_viz.errors import InputError

FOLDS = 5
_STRENGTHS = (1e-8, 1e-6, 1e-4, 1e-2, 1.0)
"""λ, relative to the mean variance of a state's dimensions; one is chosen on the training folds alone."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Products:
    """The sums of each of G groups; the last row and column of X is the constant 1."""

    xx: Float[np.ndarray, "G d d"]
    xy: Float[np.ndarray, "G d P"]
    yy: Float[np.ndarray, " G"]
    """Σ‖Y‖²."""


def products(x: Float[np.ndarray, "n D"], y: Float[np.ndarray, "n P"]) -> dict[str, np.ndarray]:
    """The sums of some rows: `xx` (D+1, D+1), `xy` (D+1, P) and `yy` (), in float64."""
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1).astype(np.float64)
    y = y.astype(np.float64)
    return {"xx": x.T @ x, "xy": x.T @ y, "yy": np.square(y).sum()}


def fold_of(groups: int) -> np.ndarray:
    """The fold of each group: neighbours in different folds, as many folds as there are groups up to FOLDS."""
    return np.arange(groups) % min(FOLDS, groups)


def held_out_error(sums: Products) -> Float[np.ndarray, " G"]:
    """Σ‖Y − X W‖² of each group, W fitted on the groups of the other folds.

    λ is chosen for each fold by the error on one other fold, fitted on the rest. NaN for all where a sum is not finite.

    Raises:
        InputError: there is one group alone.
    """
    _require_groups(sums)
    errors = np.full(len(sums.yy), np.nan)
    if _finite(sums):
        fold = fold_of(len(sums.yy))
        for held, weights in _weights_of_folds(sums):
            errors[fold == held] = _error(sums, fold == held, weights)
    return errors


def _require_groups(sums: Products) -> None:
    if len(sums.yy) < 2:
        raise InputError(f"A held-out error needs two groups of images or more, got {len(sums.yy)}.")


def _finite(sums: Products) -> bool:
    return all(np.isfinite(each).all() for each in (sums.xx, sums.xy, sums.yy))


def _weights_of_folds(sums: Products) -> Iterator[tuple[int, Float[np.ndarray, "d P"]]]:
    """Each fold, and weights fitted on the others."""
    fold = fold_of(len(sums.yy))
    for held in range(fold.max() + 1):
        train, inner = fold != held, fold == (held + 1) % (fold.max() + 1)
        strength = _STRENGTHS[-1]
        if (train & ~inner).any():
            tried = [
                _error(sums, inner, _fitted(sums, train & ~inner, strength)).sum() for strength in _STRENGTHS
            ]
            strength = _STRENGTHS[int(np.argmin(tried))]
        yield held, _fitted(sums, train, strength)


def _fitted(sums: Products, rows: np.ndarray, strength: float) -> Float[np.ndarray, "d P"]:
    xx, xy = sums.xx[rows].sum(axis=0), sums.xy[rows].sum(axis=0)
    count = xx[-1, -1]
    centre = xx[-1, :-1] / count
    spread = np.diag(xx)[:-1].mean() - count * np.square(centre).mean()
    penalty = np.full(len(xx), max(strength * spread, 1e-10 * np.trace(xx) / len(xx)))
    penalty[-1] = 0.0  # the constant is free
    return np.linalg.solve(xx + np.diag(penalty), xy)


def _error(sums: Products, rows: np.ndarray, weights: Float[np.ndarray, "d P"]) -> Float[np.ndarray, " g"]:
    crossed = np.einsum("gdp,dp->g", sums.xy[rows], weights)
    squared = np.einsum("gde,de->g", sums.xx[rows], weights @ weights.T)
    return np.maximum(sums.yy[rows] - 2 * crossed + squared, 0.0)


def held_out_values(
    sums: Products, rows: Float[np.ndarray, "n D"], group: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "n P"]:
    """What is read from each row with weights fitted on the groups of other folds, λ as in `held_out_error`.

    Args:
        sums: of each group.
        rows: states.
        group: to which group each row belongs, 0…G−1.

    Returns:
        Values; NaN where a sum or row is not finite.

    Raises:
        InputError: there is one group alone.
    """
    _require_groups(sums)
    found = np.full((len(rows), sums.xy.shape[2]), np.nan)
    if _finite(sums) and np.isfinite(rows).all():
        fold = fold_of(len(sums.yy))
        for held, weights in _weights_of_folds(sums):
            found[fold[group] == held] = rows[fold[group] == held] @ weights[:-1] + weights[-1]
    return found
