"""Can a map be trusted? What it must beat, and how sure that is when many maps are judged at once."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import binary_dilation
from scipy.special import entr, stdtr

from emma_viz.metrics.intervals import Columns, Statistic, drawn, images_known

BINS = 100
SSIM_WINDOW = 7


def histogram_entropy(values: Float[np.ndarray, "*axes"]) -> float:
    """Entropy, nats, of a map's histogram of 100 bins: how complex it is (Hedström et al. 2023; Quantus).

    NaN where a value is not finite.
    """
    if not np.isfinite(values).all():
        return float("nan")
    counts = np.histogram(values, bins=BINS)[0]
    return float(entr(counts / counts.sum()).sum())


def rise(before: float, after: float) -> float:
    """eMPRT: by what share of itself the entropy rises when the weights become random; NaN where it was 0."""
    return (after - before) / before if before else float("nan")


def spearman(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> float:
    """Rank correlation of two signed maps; NaN where one is constant or not finite."""
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return float("nan")
    from scipy.stats import rankdata  # slow to import, and only needed here

    one, two = rankdata(first), rankdata(second)
    return float(np.corrcoef(one, two)[0, 1]) if one.std() > 0 and two.std() > 0 else float("nan")


def structural_likeness(first: Float[np.ndarray, "R C"], second: Float[np.ndarray, "R C"]) -> float:
    """SSIM of two maps, sign and all, on the one scale that holds both (a uniform window of 7 patches, or as many of an
    odd number as there are); NaN where a side is shorter than 3 or both are one constant."""
    low, high = min(first.min(), second.min()), max(first.max(), second.max())
    side = min(SSIM_WINDOW, (min(first.shape) - 1) // 2 * 2 + 1)
    if side < 3 or not high > low:
        return float("nan")
    from skimage.metrics import structural_similarity  # slow to import, and only needed here

    # Above 0, as SSIM's comparison of means takes it.
    one, two = ((each - low) / (high - low) for each in (first, second))
    return float(structural_similarity(one, two, win_size=side, data_range=1.0))


def overlap(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"], share: float = 0.1) -> float:
    """Intersection over union of the cells that two maps rank highest."""
    size = max(1, round(share * len(first)))
    one, two = (set(np.argsort(-each, kind="stable")[:size].tolist()) for each in (first, second))
    return len(one & two) / len(one | two)


def points_at(values: Float[np.ndarray, "R C"], mask: Bool[np.ndarray, "R C"]) -> float:
    """1 where the highest cell is in the mask or beside it (one cell's tolerance), 0 elsewhere; NaN without a mask."""
    if not mask.any() or not np.isfinite(values).all():
        return float("nan")
    near = binary_dilation(mask, np.ones((3, 3), bool))
    return float(near.ravel()[values.argmax()])


def energy_inside(values: Float[np.ndarray, "R C"], mask: Bool[np.ndarray, "R C"]) -> float:
    """The share of what is above 0 in a map that lies in the mask; NaN where nothing is."""
    above = np.maximum(values, 0.0)
    total = above.sum()
    return (
        float(above[mask].sum() / total) if mask.any() and np.isfinite(total) and total > 0 else float("nan")
    )


def centre_prior(grid: tuple[int, int]) -> Float[np.ndarray, "R C"]:
    """A Gaussian about the middle, a quarter of each side wide: where objects are when nobody looks."""
    rows, columns = (np.square((np.arange(side) - (side - 1) / 2) / (side / 4)) for side in grid)
    return np.exp(-(rows[:, None] + columns[None]) / 2)


_TELLING = 6
"""Images whose spread is taken for one."""


def bootstrap_p(columns: Columns, control: Columns, statistic: Statistic, *, higher: bool = True) -> float:
    """How often images drawn with replacement put a number on the wrong side of its control, or level with it.

    One-sided, and never below the tail of Student's t at the number's distance in the spread of the draws: a few images
    that all agree prove less than 2000 draws of them say, and many may prove more. Where there is no spread, or fewer
    than six images to tell it by, it is not below 2⁻ⁿ for n images, which is how often signs that mean nothing are all
    the same. The images are those that the number is known of, or its control, whichever are fewer. 1 where the number
    is not defined.
    """
    with np.errstate(
        invalid="ignore"
    ):  # what is infinite on both sides, such as a code of no bits, has no gap
        gap = (drawn(columns, statistic) - drawn(control, statistic)) * (1 if higher else -1)
    gap = gap[np.isfinite(gap)]
    known = min(np.count_nonzero(images_known(each, statistic)) for each in (columns, control))
    if len(gap) < 2 or known < 2:
        return 1.0
    spread = gap.std() * np.sqrt(known / (known - 1))  # draws of n images vary less than n new ones
    tail = stdtr(known - 1, -gap.mean() / spread) if spread else float(gap[0] <= 0)
    least = 0.0 if spread and known >= _TELLING else 0.5**known
    return float(max(np.count_nonzero(gap <= 0) / len(gap), tail, least))


def holm(p: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Holm's adjusted p of a family: those below .05 are false in one family of twenty at most (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    found = np.empty(len(p))
    found[order] = np.minimum(stepped, 1.0)
    return found
