"""The last word of a probe: logistic regression (scikit-learn), by held-out images and as an online code."""

import warnings
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from emma_viz.errors import InputError
from emma_viz.metrics.readouts.folded_discriminant import UNKNOWN
from emma_viz.metrics.readouts.folded_ridge import FOLDS

_STRENGTHS = (0.01, 1.0)
"""Inverse strengths of the penalty on standardised states; one is chosen inside the training part."""
CODE_STRENGTH = 0.1
"""The same inside an online code, which has little to choose it by."""
_BLOCKS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)
"""Shares of the images after which an online code learns again (Voita & Titov 2020)."""
_LEAST = 1e-6
"""No class is thought less likely, so that one surprise costs at most 20 bits."""


def held_out_logistic(
    rows: Float[np.ndarray, "n S D"], labels: Int[np.ndarray, "n S"], *, steps: int = 500
) -> Int[np.ndarray, "n S"]:
    """The likeliest class of each row by logistic regression on the images of other folds.

    Args:
        rows: S states of each image; image i is in fold i mod 5.
        labels: their classes; UNKNOWN is never learnt.
        steps: most steps of the optimiser.

    Returns:
        Classes; UNKNOWN for all where a state is not finite, and for folds with fewer than two classes to learn.

    Raises:
        InputError: there is one image alone.
    """
    if len(rows) < 2:
        raise InputError(f"A held-out class needs two images or more, got {len(rows)}.")
    found = np.full(labels.shape, UNKNOWN)
    if not np.isfinite(rows).all():
        return found
    fold = np.arange(len(rows)) % min(FOLDS, len(rows))
    for held in range(fold.max() + 1):
        train, inner = fold != held, fold == (held + 1) % (fold.max() + 1)
        strength = _STRENGTHS[-1]
        if (train & ~inner).any():
            tried = []
            for each in _STRENGTHS:
                model = _fitted(rows[train & ~inner], labels[train & ~inner], each, steps)
                known = labels[inner] != UNKNOWN
                tried.append(0.0 if model is None else (model(rows[inner])[1] == labels[inner])[known].mean())
            strength = _STRENGTHS[int(np.argmax(tried))]
        model = _fitted(rows[train], labels[train], strength, steps)
        if model is not None:
            found[fold == held] = model(rows[fold == held])[1]
    return found


def online_bits(
    rows: Float[np.ndarray, "n S D"], labels: Int[np.ndarray, "n S"], classes: int, *, steps: int = 500
) -> dict[str, Float[np.ndarray, " n"]]:
    """Bits that each image's labels cost when they are sent in order, the sender and receiver learning as they go.

    Args:
        rows: S states of each image, in the order in which they are sent: shuffle them first.
        labels: classes, 0…K−1; UNKNOWN is not sent.
        classes: K.
        steps: most steps of the optimiser.

    Returns:
        `bits`, and what the same labels cost without learning (`uniform`): Σ uniform / Σ bits is the compression, 1
        where nothing can be learnt. NaN where a state is not finite.
    """
    known = labels != UNKNOWN
    uniform = known.sum(axis=1) * np.log2(classes)
    bits = uniform.astype(np.float64)
    if not np.isfinite(rows).all():
        return {"bits": np.full(len(rows), np.nan), "uniform": uniform}
    ends = sorted({max(1, round(share * len(rows))) for share in _BLOCKS})
    for start, stop in pairwise(ends):
        model = _fitted(rows[:start], labels[:start], CODE_STRENGTH, steps)
        if model is not None:
            shares, _ = model(rows[start:stop])
            likely = np.maximum(
                np.take_along_axis(shares, np.maximum(labels[start:stop], 0)[..., None], 2), _LEAST
            )
            bits[start:stop] = (-np.log2(likely[..., 0]) * known[start:stop]).sum(axis=1)
    return {"bits": bits, "uniform": uniform}


def _fitted(rows: np.ndarray, labels: np.ndarray, strength: float, steps: int):
    """A function from rows (…, D) to shares of the classes (…, K) and the likeliest; None with one class alone."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    flat, known = rows.reshape(-1, rows.shape[-1]).astype(np.float64), labels.ravel() != UNKNOWN
    flat, wanted = flat[known], labels.ravel()[known]
    if len(np.unique(wanted)) < 2:
        return None
    centre, spread = flat.mean(axis=0), flat.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the bound on steps is meant
        model = LogisticRegression(C=strength, tol=1e-6, max_iter=steps, solver="newton-cholesky").fit(
            (flat - centre) / scale, wanted
        )

    def read(asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = model.predict_proba((asked.reshape(-1, asked.shape[-1]) - centre) / scale)
        shares = np.zeros((len(found), int(max(labels.max(), model.classes_.max())) + 1))
        shares[:, model.classes_] = found
        shares = shares.reshape(*asked.shape[:-1], -1)
        return shares, shares.argmax(axis=-1)

    return read
