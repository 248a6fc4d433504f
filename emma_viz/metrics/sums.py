"""What is measured of decoded pictures as sums per image, and the numbers that are made of such sums.

Sums add up over batches, processes and machines; `emma_viz.metrics.intervals` draws images from them.
"""

from collections.abc import Sequence

import numpy as np
from einops import rearrange
from jaxtyping import Float

from emma_viz.metrics.intervals import Columns, Statistic, Sums, ratio
from emma_viz.metrics.quality import psnr, r2_of_sums, ssim
from emma_viz.metrics.spectrum import OCTAVES, octave_power
from emma_viz.shapes import CHANNELS


def residual_columns(
    decoded: Float[np.ndarray, "B T p p c"], true: Float[np.ndarray, "B T p p c"]
) -> dict[str, np.ndarray]:
    """The sums that R² is made of: squared error, and count, sum and squares of the true pixels per colour."""
    return {"residual": squared_errors(decoded, true), **truth_columns(true)}


def squared_errors(
    decoded: Float[np.ndarray, "B T p p c"], true: Float[np.ndarray, "B T p p c"]
) -> Float[np.ndarray, " B"]:
    """The squared error of each image, summed over its pixels."""
    error = decoded.astype(np.float64) - true
    return np.square(error).reshape(len(true), -1).sum(axis=1)


def truth_columns(true: Float[np.ndarray, "B T p p c"]) -> dict[str, np.ndarray]:
    """Count, sum and squares of each image's true pixels per colour: what of R² is the same for all that decode."""
    centred = true.reshape(len(true), -1, CHANNELS).astype(np.float64) - 0.5
    columns = {
        "pixels": np.full(len(true), centred.shape[1], np.float64),
        "squares": np.square(centred).sum(axis=(1, 2)),
    }
    return columns | {f"sum{channel}": centred[..., channel].sum(axis=1) for channel in range(CHANNELS)}


def pooled_r2(sums: Sums) -> np.ndarray | np.floating:
    """R²: 1 − Σ(decoded − true)² / Σ(true − mean colour)², over all pixels of all images, pixels as decoded (not
    clipped); the mean colour is that of the same images. One mean colour shown for everything has R² = 0.
    NaN for images of one colour, as `emma_viz.metrics.quality.r2`."""
    between = sum(np.square(sums[f"sum{channel}"]) for channel in range(CHANNELS)) / sums["pixels"]
    return r2_of_sums(sums["residual"], sums["squares"] - between, sums["pixels"] * CHANNELS)


def shown_columns(
    decoded: Float[np.ndarray, "B T p p c"], true: Float[np.ndarray, "B T p p c"], grid: tuple[int, int]
) -> dict[str, np.ndarray]:
    """PSNR (dB, peak 1) and SSIM (7×7 window) of each image as it would be shown, clipped to [0, 1]; and the power
    per octave of the decoded and of the true image."""
    pattern = "b (R C) i j c -> b (R i) (C j) c"
    images, truths = (rearrange(each, pattern, R=grid[0]) for each in (decoded, true))
    columns = {
        "psnr": np.array([psnr(a, b) for a, b in zip(images, truths, strict=True)]),
        "ssim": np.array([ssim(a, b) for a, b in zip(images, truths, strict=True)]),
    }
    for name, pictures in (("power", images), ("true_power", truths)):
        found = octave_power(pictures)
        columns |= {f"{name}{low}": found[:, number] for number, low in enumerate(OCTAVES)}
    return columns


def joined_columns(parts: Sequence[Columns]) -> dict[str, np.ndarray]:
    """The columns of batches, one after another."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


PIXEL_MEASURES: dict[str, Statistic] = {"r2": pooled_r2, "psnr": ratio("psnr"), "ssim": ratio("ssim")}
"""Name → number, from the columns of a decoded picture; PSNR and SSIM are means over images."""
