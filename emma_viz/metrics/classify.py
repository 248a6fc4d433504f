"""Linear classifiers judged on images that they were not fitted on, beside a control task (Hewitt & Liang 2019)."""

import warnings
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.preprocessing import StandardScaler

from emma_viz.errors import InputError

Method = Literal["ridge", "logistic"]
FOLDS = 5
STRENGTHS = np.logspace(-2, 4, 7)
"""λ of the ridge, for standardised features; chosen on the training images alone."""
TYPES = 40
"""Clusters of raw features that a control task takes for types, at most a quarter of the rows."""


def out_of_fold(
    features: Float[np.ndarray, "n D"],
    labels: Int[np.ndarray, " n"],
    images: Int[np.ndarray, " n"],
    *,
    method: Method = "ridge",
) -> Int[np.ndarray, " n"]:
    """The class that is read from each row by a classifier that saw none of its image.

    Args:
        features: one row for each thing; standardised by the training rows.
        labels: its class.
        images: the image that it is in; all things of an image are in one fold.
        method: one-hot ridge, λ by leave-one-out on the training rows; or logistic regression.

    Returns:
        A class a row: where the training rows have one class alone, that class.

    Raises:
        InputError: there are fewer than two images.
    """
    numbers = np.unique(images)
    if len(numbers) < 2:
        raise InputError(f"A held-out class needs things in two images or more, got {len(numbers)}.")
    fold = np.searchsorted(numbers, images) % min(FOLDS, len(numbers))
    found = np.empty(len(labels), dtype=labels.dtype)
    for held in range(fold.max() + 1):
        train = fold != held
        if len(np.unique(labels[train])) < 2:
            found[~train] = labels[train][0]
            continue
        scale = StandardScaler().fit(features[train])
        found[~train] = (
            _classifier(method)
            .fit(scale.transform(features[train]), labels[train])
            .predict(scale.transform(features[~train]))
        )
    return found


class _Logistic(LogisticRegression):
    """Logistic regression that says nothing of a limit of iterations: what it predicts is judged anyway."""

    def fit(self, X, y, sample_weight=None):
        """Fit, as LogisticRegression does."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return super().fit(X, y, sample_weight)


def _classifier(method: Method) -> RidgeClassifierCV | _Logistic:
    return RidgeClassifierCV(alphas=STRENGTHS) if method == "ridge" else _Logistic(C=0.1, max_iter=500)


def control_labels(
    raw: Float[np.ndarray, "n D"], labels: Int[np.ndarray, " n"], *, seed: int = 0
) -> Int[np.ndarray, " n"]:
    """Labels of a control task: things that look alike, by clusters of raw features, get one class drawn at random.

    A classifier that does well on them has learned by heart which look has which class; what it does better on the true
    labels than on these is its selectivity. Classes are drawn as often as they are in `labels`.
    """
    count = max(min(TYPES, len(raw) // 4), 1)
    types = KMeans(count, n_init=1, random_state=seed).fit_predict(
        np.ascontiguousarray(raw, dtype=np.float64)
    )
    return np.random.default_rng(seed).choice(labels, count)[types]


def balanced_hits(
    found: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"], images: Int[np.ndarray, " n"], count: int
) -> dict[str, Float[np.ndarray, " images"]]:
    """Per image the weight of right answers and of all, each class weighing the same: their ratio of sums is balanced
    accuracy.

    Args:
        images: numbers from 0 to `count` − 1.
        count: images there are, those without a thing too.
    """
    classes, of = np.unique(labels, return_inverse=True)
    weight = 1.0 / np.bincount(of)[of] / len(classes)
    return {
        "right": np.bincount(images, weight * (found == labels), minlength=count),
        "all": np.bincount(images, weight, minlength=count),
    }
