"""Numbers of yes/no answers as sums per cluster of rows, such as those of an image, which intervals draw.

All are defined without a division by zero: a number whose denominator is empty is NaN, and is printed as none.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from emma_viz.metrics.intervals import (
    LEVEL,
    Columns,
    Estimate,
    Statistic,
    Sums,
    draws,
    effective_trials,
    has_something,
    ratio,
    share,
    wilson,
)

NEITHER = -1
"""What stands for an answer that is neither yes nor no."""
_BINS = 10
"""Of the calibration: equally wide, from 0 to 1."""
BLOCK = 200
"""Resamples of a ranking that are held in memory at once."""
_RANKINGS = ("auroc", "auprc")

VERDICTS: dict[str, Statistic] = {
    "accuracy": ratio("right", "asked"),
    "precision": ratio("hit", "claimed"),
    "recall": ratio("hit", "there"),
    "f1": ratio("hit", "claimed", also_below="there", factor=2.0),
    "yes_rate": ratio("yes", "asked"),
    "unparsed": ratio("neither", "asked"),
}
"""Name → number, of `verdict_columns`."""


def verdict_columns(
    truth: Bool[np.ndarray, " n"],
    said: Int[np.ndarray, " n"],
    right: Bool[np.ndarray, " n"],
    cluster: Int[np.ndarray, " n"],
    clusters: int,
    *,
    positive: bool = True,
    recalls_unparsed: bool = True,
) -> dict[str, np.ndarray]:
    """Sums per cluster.

    Args:
        truth: whether yes is true.
        said: 1 yes, 0 no, NEITHER.
        right: whether it counts as right.
        cluster: the number of each row's cluster.
        clusters: how many there are.
        positive: what precision, recall and F1 are about: yes, or no.
        recalls_unparsed: whether recall counts rows that were answered by neither.
    """
    wanted, claimed = truth == positive, said == int(positive)
    there = wanted if recalls_unparsed else wanted & (said != NEITHER)
    masks = {
        "asked": np.ones(len(truth), bool),
        "right": right,
        "yes": said == 1,
        "neither": said == NEITHER,
        "claimed": claimed,
        "there": there,
        "hit": wanted & claimed,
    }
    return {name: np.bincount(cluster, weights=mask, minlength=clusters) for name, mask in masks.items()}


def calibration_columns(
    truth: Bool[np.ndarray, " n"],
    leaning: Float[np.ndarray, " n"],
    cluster: Int[np.ndarray, " n"],
    clusters: int,
) -> dict[str, np.ndarray]:
    """Sums per cluster that `CALIBRATION_STATISTICS` is made of; rows whose `leaning` is NaN are left out."""
    known = np.isfinite(leaning)
    p, y, where = leaning[known], truth[known].astype(np.float64), cluster[known]
    bins = _bins(p)
    columns = {
        "known": np.bincount(where, minlength=clusters).astype(np.float64),
        "square": np.bincount(where, weights=np.square(p - y), minlength=clusters),
    }
    for number in range(_BINS):
        chosen = bins == number
        columns[f"gap{number}"] = np.bincount(where, weights=(p - y) * chosen, minlength=clusters)
    return columns


def _expected_error(sums: Sums) -> np.ndarray | np.floating:
    gaps = sum(np.abs(sums[f"gap{number}"]) for number in range(_BINS))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(gaps) / np.asarray(sums["known"])


@dataclass(frozen=True, kw_only=True)
class ShareOfRows:
    """For how many of some rows something holds."""

    value: float
    """From 0 to 1."""
    low: float
    """Lower end of the 95 % interval over clusters; NaN where all rows are of one."""
    high: float
    """Its upper end."""
    rows: int


@dataclass(frozen=True, kw_only=True)
class CalibrationBin:
    """The rows of one bin of the calibration."""

    leaning: float
    """Their mean P(Yes) / (P(Yes) + P(No))."""
    share: ShareOfRows
    """Of which yes is true."""


def calibration_curve(
    truth: Bool[np.ndarray, " n"], leaning: Float[np.ndarray, " n"], cluster: Int[np.ndarray, " n"]
) -> list[CalibrationBin]:
    """What the calibration error sums up: each bin that has rows.

    Args:
        truth: whether yes is true.
        leaning: P(Yes) / (P(Yes) + P(No)); rows where it is NaN are left out.
        cluster: the number of each row's cluster.
    """
    known = np.isfinite(leaning)
    p, y, where = leaning[known], truth[known], cluster[known]
    bins = _bins(p)
    return [
        CalibrationBin(
            leaning=float(p[bins == each].mean()),
            share=share_of_rows(y[bins == each], where[bins == each]),
        )
        for each in np.unique(bins)
    ]


def _bins(p: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    return np.minimum((p * _BINS).astype(int), _BINS - 1)


CALIBRATION_STATISTICS: dict[str, Statistic] = {"brier": ratio("square", "known"), "ece": _expected_error}
"""Name → number, of `calibration_columns`: Brier's score, and the expected calibration error over ten bins."""


def mean_of_parts(
    parts: Mapping[str, Columns], statistic: Statistic
) -> tuple[dict[str, np.ndarray], Statistic]:
    """The mean over splits of a number, as columns and a statistic: Cobra's harness reports it so.

    Args:
        parts: split → its columns, all about the same clusters.
        statistic: of each.
    """
    columns = {f"{part}\0{name}": each for part, some in parts.items() for name, each in some.items()}

    def mean(sums: Sums) -> np.ndarray | np.floating:
        each = [
            statistic({name: sums[f"{part}\0{name}"] for name in some} | {"images": sums["images"]})
            for part, some in parts.items()
        ]
        return np.mean(each, axis=0)

    return columns, mean


def share_of_parts(parts: Mapping[str, Columns], statistic: Statistic) -> Estimate:
    """The mean over splits of a share, with Wilson's interval over images, as `share` has it.

    Where the draws do not vary, the trials are as many as would vary like the mean of splits of which each has as many
    as images with something in it, but no more than images with something in any.

    Args:
        parts: split → its columns, all about the same clusters.
        statistic: of each.
    """
    columns, mean = mean_of_parts(parts, statistic)
    known = np.stack([has_something(each, statistic) for each in parts.values()])
    with np.errstate(divide="ignore"):  # the mean over a split without any is NaN
        apart = len(known) ** 2 / np.sum(1 / known.sum(axis=1))
    return share(columns, mean, trials=float(min(apart, known.any(axis=0).sum())))


def ranking(
    truth: Bool[np.ndarray, " n"],
    leaning: Float[np.ndarray, " n"],
    cluster: Int[np.ndarray, " n"],
    clusters: int,
) -> dict[str, tuple[float, float, float]]:
    """AUROC and AUPRC (average precision) of yes, each with the 95 % interval of a bootstrap over clusters.

    Rows whose `leaning` is NaN are left out. NaN where only one truth is left. The ends alone are NaN where all draws
    give the same number, as where every yes ranks before every no: they say nothing of how sure it is.
    """
    known = np.isfinite(leaning)
    if truth[known].all() or not truth[known].any():
        return dict.fromkeys(_RANKINGS, (np.nan, np.nan, np.nan))
    whole, spread = _resampled(truth[known], leaning[known], cluster[known], clusters)
    found = {
        name: _with_ends(value, resamples)
        for name, value, resamples in zip(_RANKINGS, whole, spread, strict=True)
    }
    return {
        name: (value, low, high) if low < high else (value, np.nan, np.nan)
        for name, (value, low, high) in found.items()
    }


def ranking_difference(
    truth: Bool[np.ndarray, " n"],
    one: Float[np.ndarray, " n"],
    other: Float[np.ndarray, " n"],
    cluster: Int[np.ndarray, " n"],
    clusters: int,
) -> tuple[float, float, float]:
    """AUROC of one model less that of another on the same rows, with the interval of the paired bootstrap: both are
    ranked on the same drawn clusters.

    Rows that one of them did not rank are left out of both. NaN where only one truth is left. The ends alone are NaN
    where they say nothing of how sure it is: all rows are of one cluster, or all draws give the same difference, and
    not 0.
    """
    known = np.isfinite(one) & np.isfinite(other)
    if truth[known].all() or not truth[known].any():
        return np.nan, np.nan, np.nan
    (a, first), (b, second) = (
        _resampled(truth[known], each[known], cluster[known], clusters) for each in (one, other)
    )
    value, low, high = _with_ends(a[0] - b[0], first[0] - second[0])
    if len(np.unique(cluster[known])) < 2 or (low == high and value != 0):
        return value, np.nan, np.nan
    return value, low, high


def _resampled(
    truth: Bool[np.ndarray, " n"],
    leaning: Float[np.ndarray, " n"],
    cluster: Int[np.ndarray, " n"],
    clusters: int,
) -> tuple[list[float], list[np.ndarray]]:
    """Each of `_RANKINGS`, of all rows and of each resample."""
    order = np.argsort(-leaning, kind="stable")
    p, y, where = leaning[order], truth[order], cluster[order]
    ends = np.flatnonzero(np.append(p[1:] != p[:-1], True))
    whole = _ranked(np.ones((1, len(y))), y, ends)
    weights = draws(clusters)
    parts = [
        _ranked(weights[start : start + BLOCK, where], y, ends) for start in range(0, len(weights), BLOCK)
    ]
    return [float(each[0]) for each in whole], [np.concatenate(each) for each in zip(*parts, strict=True)]


def _with_ends(value: float, spread: np.ndarray) -> tuple[float, float, float]:
    """A number, and the ends of its interval."""
    tail = 50 * (1 - LEVEL)
    low, high = np.nanpercentile(spread, [tail, 100 - tail])
    return float(value), float(low), float(high)


def _ranked(
    weights: Float[np.ndarray, "k n"], truth: Bool[np.ndarray, " n"], ends: Int[np.ndarray, " e"]
) -> tuple[np.ndarray, np.ndarray]:
    """AUROC and average precision for each row of weights; rows of the data by falling score, ties end at `ends`."""
    hits = np.cumsum(weights * truth, axis=1)[:, ends]
    misses = np.cumsum(weights * ~truth, axis=1)[:, ends]
    new_hits, new_misses = (np.diff(each, axis=1, prepend=0) for each in (hits, misses))
    with np.errstate(divide="ignore", invalid="ignore"):
        above = (new_misses * (hits - new_hits / 2)).sum(axis=1)
        area = above / (hits[:, -1] * misses[:, -1])
        precision = np.where(hits + misses > 0, hits / (hits + misses), 0.0)
        average = (new_hits * precision).sum(axis=1) / hits[:, -1]
    return area, average


def share_of_rows(holds: Bool[np.ndarray, " n"], cluster: Int[np.ndarray, " n"]) -> ShareOfRows:
    """A share with Wilson's interval over clusters, as `share` of `emma_viz.metrics.intervals` has it, whose draws are
    replaced by `clustered_error`: for many shares of few rows each.

    Args:
        holds: for each row; at least one.
        cluster: the number of each row's cluster.
    """
    value, clusters = float(holds.mean()), len(np.unique(cluster))
    if clusters < 2:
        return ShareOfRows(value=value, low=math.nan, high=math.nan, rows=len(holds))
    varied = clustered_error(holds.astype(np.float64), cluster) ** 2 * clusters / (clusters - 1)
    low, high = wilson(value, effective_trials(value, varied, clusters))
    return ShareOfRows(value=value, low=low, high=high, rows=len(holds))


def clustered_error(right: Float[np.ndarray, " n"], cluster: Int[np.ndarray, " n"]) -> float:
    """The standard error of a mean whose rows are correlated within clusters (Miller 2024, equation 4)."""
    sums = np.bincount(cluster, weights=right - right.mean())
    return float(np.sqrt(np.square(sums).sum()) / len(right))
