"""Maps against object masks: does a map point at the object?"""

import numpy as np
from jaxtyping import Bool, Float, Num

from emma_viz.data.image_grid import ImageGrid
from emma_viz.errors import InputError


def mask_on_grid(mask: Bool[np.ndarray, "height width"], geometry: ImageGrid) -> Float[np.ndarray, "R C"]:
    """The share of each patch that a mask covers.

    Args:
        mask: in the frame of the original image.
        geometry: of that image.

    Returns:
        Shares in [0, 1]; NaN where a patch covers no pixel of the image (padding).

    Raises:
        InputError: the mask is not of the image's size.
    """
    width, height = geometry.image_size
    if mask.shape != (height, width):
        raise InputError(
            f"A mask of {height}×{width} pixels (rows, columns) is needed; this one has {mask.shape}."
        )
    rows, columns = geometry.grid
    # +1, so that 0 stands for pixels that no patch sees.
    token = geometry.paste(np.arange(1, rows * columns + 1, dtype=np.float32).reshape(rows, columns))
    token = np.nan_to_num(token).astype(np.int64).ravel()
    covered = np.bincount(token, weights=mask.ravel(), minlength=rows * columns + 1)[1:]
    pixels = np.bincount(token, minlength=rows * columns + 1)[1:]
    share = np.where(pixels > 0, covered / np.maximum(pixels, 1), np.nan)
    return share.reshape(rows, columns)


def auroc(values: Num[np.ndarray, "*axes"], inside: Bool[np.ndarray, "*axes"]) -> float:
    """The chance that a random cell inside has a higher value than a random one outside; ties count half.

    Args:
        values: a map; cells that are not finite are left out.
        inside: which cells belong to the object.

    Returns:
        0.5 for a map that says nothing, 1 when every cell inside is above every one outside; NaN when either
        is empty.
    """
    finite = np.isfinite(values)
    values, inside = np.asarray(values)[finite], np.asarray(inside)[finite]
    n_inside, n_outside = int(inside.sum()), int((~inside).sum())
    if not n_inside or not n_outside:
        return float("nan")
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = mean_rank[index.ravel()][inside].sum()
    return float((rank_sum - n_inside * (n_inside + 1) / 2) / (n_inside * n_outside))


def won_pairs(
    scores: Float[np.ndarray, "n K"], inside: Bool[np.ndarray, "n K"]
) -> dict[str, Float[np.ndarray, " n"]]:
    """Sums per row of which Σ sum / Σ count is the AUROC over all columns.

    For each row and each column that it is inside of: the share of the rows outside which have a lower score, ties
    half. Columns that all rows, or none, are inside of are left out. NaN where a score is not finite.
    """
    won, count = np.zeros(len(scores)), np.zeros(len(scores))
    for values, chosen in zip(scores.T, inside.T, strict=True):
        if chosen.any() and not chosen.all():
            above = np.sign(values[chosen][:, None] - values[~chosen][None])
            won[chosen] += (1 + above).mean(axis=1) / 2
            count[chosen] += 1
    return {"sum": won, "count": count}
