"""How sure a number is: bootstrap over images, Student's t over seeds, and when a difference may be claimed.

Everything that is measured is kept as sums per image ("columns": a name → one number per image), and every number is
a function of those sums over all images. Drawing images with replacement then means weighting the sums.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import stdtrit

from emma_viz.errors import InputError

RESAMPLES = 2000
LEVEL = 0.95
_NORMAL = 1.959964
"""The normal distribution holds LEVEL within so many deviations."""
_ROUNDING = 1e-12
"""A smaller variance of a share, as a part of that of one trial, is rounding."""
_SEED = 20240
"""Of the draws: the same for every interval, so that differences between models are paired."""

Columns = Mapping[str, np.ndarray]
"""Sums per image: name → float (n,)."""

Sums = Mapping[str, np.ndarray | np.floating]
"""Columns summed over images: name → one number, or one for each resample."""

Statistic = Callable[[Sums], np.ndarray | np.floating]
"""Sums (…,) over images, by name → the number (…,)."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its two intervals."""

    value: float
    """Mean over the seeds."""
    low: float
    """Lower end of the 95 % interval over images, seeds held fixed: percentile bootstrap, Student's t in
    `mean_over`."""
    high: float
    """Its upper end."""
    seeds: tuple[float, ...]
    """The number of each seed."""
    seed_low: float | None
    """Lower end of the 95 % interval over seeds (Student's t); None for one seed."""
    seed_high: float | None
    """Its upper end."""
    images: int
    """Images that were drawn from."""

    @property
    def sign(self) -> int:
        """+1 or −1 where every interval there is excludes 0 on that side; else 0: the data does not support a sign."""
        ends = [(self.low, self.high)]
        if self.seed_low is not None and self.seed_high is not None:
            ends.append((self.seed_low, self.seed_high))
        if all(low > 0 for low, _ in ends):
            return 1
        return -1 if all(high < 0 for _, high in ends) else 0

    def to_json(self) -> dict[str, Any]:
        """A plain dict, rounded to 5 digits; NaN becomes None."""
        named = {name: _plain(getattr(self, name)) for name in ("value", "low", "high")}
        found = {**named, "seeds": [_plain(each) for each in self.seeds], "images": self.images}
        if self.seed_low is not None:
            found |= {"seed_low": _plain(self.seed_low), "seed_high": _plain(self.seed_high)}
        return {**found, "sign": self.sign}


def _plain(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), 5)


def ratio(
    above: str, below: str | None = None, *, also_below: str | None = None, factor: float = 1.0
) -> Statistic:
    """The statistic factor · Σ above / (Σ below + Σ also_below); over the number of images when `below` is None."""

    def statistic(sums: Sums) -> np.ndarray | np.floating:
        under = sums["images"] if below is None else sums[below]
        if also_below is not None:
            under = under + sums[also_below]
        with np.errstate(divide="ignore", invalid="ignore"):
            return factor * np.asarray(sums[above]) / np.asarray(under)

    return statistic


@lru_cache(2)
def draws(images: int) -> np.ndarray:
    """How often each image is drawn in each resample: float (RESAMPLES, images), rows sum to `images`.

    Only the last two are kept: those of 9000 images take 137 MiB.
    """
    rng, shares = np.random.default_rng([_SEED, images]), np.full(images, 1 / images)
    found = np.empty((RESAMPLES, images))
    for row in found:  # one at a time, so that the integers never take as much memory again
        row[:] = rng.multinomial(images, shares)
    return found


def drawn(columns: Columns, statistic: Statistic) -> np.ndarray:
    """A number of the images of each resample: float (RESAMPLES,).

    Args:
        columns: sums per image.
        statistic: of the summed columns.
    """
    whole = _per_image(columns)
    weights = draws(len(whole["images"]))
    return np.asarray(statistic({name: weights @ each for name, each in whole.items()}))


def _per_image(columns: Columns) -> dict[str, np.ndarray]:
    """What a statistic may ask for: the columns, and each image as one."""
    whole = {name: np.asarray(each, np.float64) for name, each in columns.items()}
    return {**whole, "images": np.ones(len(next(iter(whole.values()))))}


def estimate(columns: Sequence[Columns], statistic: Statistic) -> Estimate:
    """A number of one model, from the columns of each of its seeds."""
    return combine([(1.0, columns)], statistic)


def difference(a: Sequence[Columns], b: Sequence[Columns], statistic: Statistic) -> Estimate:
    """a − b on the same images, seed by seed: the paired bootstrap draws the same images for both."""
    return combine([(1.0, a), (-1.0, b)], statistic)


def combine(terms: Sequence[tuple[float | int, Sequence[Columns]]], statistic: Statistic) -> Estimate:
    """Σ weight · statistic, where each term has the columns of every seed, all about the same images.

    Args:
        terms: (weight, columns per seed).
        statistic: of the summed columns.

    Returns:
        the number; its interval is NaN where one of the terms is known of fewer than two images.

    Raises:
        InputError: the terms have different numbers of seeds or images.
    """
    counts = {len(next(iter(each.values()))) for _, columns in terms for each in columns}
    seeds = {len(columns) for _, columns in terms}
    if len(counts) != 1 or len(seeds) != 1 or 0 in seeds:
        raise InputError(
            f"Numbers can be combined when they are about the same images and seeds; got {sorted(counts)} images and "
            f"{sorted(seeds)} seeds. Measure all models on the same scenes."
        )
    images = counts.pop()
    values = np.zeros(seeds.pop())
    resampled = np.zeros((len(values), RESAMPLES))
    for factor, columns in terms:
        for seed, each in enumerate(columns):
            with np.errstate(
                invalid="ignore"
            ):  # the difference of two infinite numbers is not defined, and said so
                whole = {name: column.sum() for name, column in _per_image(each).items()}
                values[seed] += factor * statistic(whole)
                resampled[seed] += factor * drawn(each, statistic)
    spread = resampled.mean(axis=0)
    spread = spread[np.isfinite(spread)]
    if min(images_known(each, statistic).sum() for _, columns in terms for each in columns) < 2:
        spread = spread[:0]  # draws of one image are all the same, and say nothing
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(spread, [tail, 100 - tail]) if len(spread) else (math.nan, math.nan)
    seed_low, seed_high = student(values)
    return Estimate(
        value=float(values.mean()),
        low=float(low),
        high=float(high),
        seeds=tuple(float(value) for value in values),
        seed_low=seed_low,
        seed_high=seed_high,
        images=images,
    )


def share(columns: Columns, statistic: Statistic, *, trials: float | int | None = None) -> Estimate:
    """A number from 0 to 1 of one model, such as an accuracy, with Wilson's interval over images.

    A bootstrap's interval is too narrow near 0 and 1, and has no width where every image is right. Wilson's takes as
    its number of trials that of independent ones which would vary as much as the draws of images do (Brown, Cai and
    DasGupta 2001; for clusters Dean and Pagano 2015): where the draws do not vary, the images that have something.

    Args:
        columns: sums per image.
        statistic: of the sums.
        trials: of Wilson's interval where the draws do not vary; as many as `has_something` finds when None.

    Returns:
        the number; its interval is NaN where fewer than two images have something.
    """
    found = estimate([columns], statistic)
    value, images = found.value, found.images
    trials = int(has_something(columns, statistic).sum()) if trials is None else trials
    if trials < 2 or not math.isfinite(value):
        return replace(found, low=math.nan, high=math.nan)
    spread = drawn(columns, statistic)
    varied = float(np.var(spread[np.isfinite(spread)])) * images / (images - 1)
    low, high = wilson(value, effective_trials(value, varied, trials))
    return replace(found, low=low, high=high)


def has_something(columns: Columns, statistic: Statistic) -> np.ndarray:
    """Which images have a part in a number, bool (n,): in precision, those about which something is claimed.

    Args:
        columns: sums per image.
        statistic: of the sums; a number of such an image alone, NaN of any other.
    """
    return np.isfinite(statistic(_per_image(columns)))


def images_known(columns: Columns, statistic: Statistic) -> np.ndarray:
    """Which images a number is known of, bool (n,): those of which a sum is not 0, or that alone have a number.

    Args:
        columns: sums per image, 0 where the number is not known.
        statistic: of the sums.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        alone = has_something(columns, statistic)
    return np.any([np.asarray(each) != 0 for each in columns.values()], axis=0) | alone


def effective_trials(value: float, varied: float, known: float | int) -> float:
    """How many independent trials vary as much as a share does.

    Args:
        value: the share.
        varied: its variance; what rounding leaves of none counts as none.
        known: the trials where it has none.
    """
    spread = value * (1 - value)
    return max(spread / varied, 1.0) if varied > _ROUNDING * spread else float(known)


def wilson(value: float, trials: float | int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share.

    Args:
        value: the share.
        trials: of how many independent ones.
    """
    square = _NORMAL**2 / trials
    middle = (value + square / 2) / (1 + square)
    half = math.sqrt(square * value * (1 - value) + square**2 / 4) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def mean_over(values: np.ndarray) -> Estimate:
    """The mean over few images, whose interval is Student's t over the images, each its mean over the seeds.

    Args:
        values: of every seed and image, (seeds, images); at least two images, or all of a seed's are NaN.
    """
    low, high = student(values.mean(axis=0))
    seeds = values.mean(axis=1)
    seed_low, seed_high = student(seeds)
    return Estimate(
        value=float(seeds.mean()),
        low=math.nan if low is None else low,
        high=math.nan if high is None else high,
        seeds=tuple(float(value) for value in seeds),
        seed_low=seed_low,
        seed_high=seed_high,
        images=values.shape[1],
    )


def student(values: np.ndarray) -> tuple[float | None, float | None]:
    """The 95 % interval of a mean by Student's t; (None, None) for one value.

    Few values are too few for a bootstrap, whose interval would be too narrow; t is exact for normal ones.
    """
    if len(values) < 2:
        return None, None
    quantile = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2))
    half = quantile * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return float(values.mean()) - half, float(values.mean()) + half


NONE = "no difference that this data supports"
"""What is written where an interval holds 0."""


def claim(found: Estimate, *, more: str, less: str) -> str:
    """The sentence that a difference supports.

    Args:
        found: the difference.
        more: what to say when it is above 0.
        less: what to say when it is below 0.
    """
    return {1: more, -1: less, 0: NONE}[found.sign]
