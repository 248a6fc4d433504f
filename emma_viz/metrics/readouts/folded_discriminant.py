"""Linear discriminants from sums of products, fitted on some groups of images and asked about the others.

With X the states, a column of ones beside them, and Y their classes as one-hot rows, XᵀX and XᵀY of a group hold
all that a linear discriminant is made of: counts, means of classes, and the scatter within them. So every layer and
every question is fitted in one pass over the data; only the rows that are asked about are kept.
"""

import numpy as np
from jaxtyping import Float, Int

from emma_viz.errors import InputError
from emma_viz.metrics.readouts.folded_ridge import fold_of

SHRINKAGE = 0.01
"""How far the standardised scatter is drawn to the identity: the same for all that is compared."""
UNKNOWN = -1
"""The label of a row of which nobody knows the class."""


def one_hot(labels: Int[np.ndarray, " n"], classes: int) -> Float[np.ndarray, "n K"]:
    """A row of zeros with a one in the label's place; of zeros alone where it is UNKNOWN."""
    return (labels[:, None] == np.arange(classes)).astype(np.float64)


def discriminant(
    xx: Float[np.ndarray, "d d"], xy: Float[np.ndarray, "d K"], *, shrinkage: float = SHRINKAGE
) -> Float[np.ndarray, "d K"]:
    """Weights of the linear discriminant with equal priors: the class with the highest x @ weights is the likeliest.

    States are standardised first. The last row is the constant's.

    Args:
        xx: products of states, each with a 1 behind it, over rows with a known class.
        xy: their products with the classes.
        shrinkage: between 0 and 1.

    Returns:
        Weights; −∞ in the last row for a class that no row is of.

    Raises:
        InputError: no row has a class.
    """
    counts = xy[-1]
    total = counts.sum()
    if total <= 0:
        raise InputError("expected rows with a class to fit a discriminant on, got none.")
    known = counts > 0
    centre = xx[-1, :-1] / xx[-1, -1]
    # About the common mean: differences of large squares would lose digits.
    scatter = xx[:-1, :-1] - xx[-1, -1] * np.outer(centre, centre)
    means = (xy[:-1, known] / counts[known]).T - centre
    spread = np.sqrt(np.maximum(np.diag(scatter), 0.0) / total)
    scale = np.where(spread > 1e-12 * max(float(spread.max(initial=0.0)), 1e-300), spread, np.inf)
    within = (scatter - (means.T * counts[known]) @ means) / total / np.outer(scale, scale)
    size = len(within)
    within = (1 - shrinkage) * within + (shrinkage * np.trace(within) / size + 1e-12) * np.eye(size)
    standard = means / scale
    slope = np.linalg.solve(within, standard.T)
    weights = np.zeros(xy.shape)
    weights[:-1, known] = slope / scale[:, None]
    weights[-1] = -np.inf
    weights[-1, known] = -(standard.T * slope).sum(axis=0) / 2 - centre @ weights[:-1, known]
    return weights


def held_out_classes(
    xx: Float[np.ndarray, "G d d"],
    xy: Float[np.ndarray, "G d K"],
    rows: Float[np.ndarray, "n S D"],
    group: Int[np.ndarray, " n"],
) -> Int[np.ndarray, "n S"]:
    """The likeliest class of each row, by a discriminant fitted on the groups of other folds.

    Args:
        xx: products of each group's states, a 1 behind each.
        xy: their products with the classes.
        rows: S states of each image.
        group: to which group each image belongs, 0…G−1.

    Returns:
        Classes; UNKNOWN for all where a sum or state is not finite, and of folds that there is nothing to fit on.

    Raises:
        InputError: there is one group alone.
    """
    if len(xx) < 2:
        raise InputError(f"A held-out class needs two groups of images or more, got {len(xx)}.")
    found = np.full(rows.shape[:2], UNKNOWN)
    if not all(np.isfinite(each).all() for each in (xx, xy, rows)):
        return found
    fold = fold_of(len(xx))
    for held in range(fold.max() + 1):
        train, asked = fold != held, fold[group] == held
        counted = xy[train].sum(axis=0)
        if (counted[-1] > 0).sum() > 1 and asked.any():
            weights = discriminant(xx[train].sum(axis=0), counted)
            scores = rows[asked] @ np.nan_to_num(weights[:-1]) + weights[-1]
            found[asked] = scores.argmax(axis=-1)
    return found


def hits(
    predicted: Int[np.ndarray, "n S"], labels: Int[np.ndarray, "n S"]
) -> dict[str, Float[np.ndarray, " n"]]:
    """Sums per image of which Σ hit / Σ count is the balanced accuracy: every class weighs the same in the whole.

    Rows without a label are left out; NaN where nothing could be predicted.
    """
    weight = np.zeros(labels.shape)
    for each in np.unique(labels[labels != UNKNOWN]):
        weight[labels == each] = 1 / (labels == each).sum()
    hit = (weight * (predicted == labels)).sum(axis=1)
    if (predicted == UNKNOWN).all():
        hit = np.full(len(labels), np.nan)
    return {"hit": hit, "count": weight.sum(axis=1)}
