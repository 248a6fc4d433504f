"""What is measured of a decoded picture, of states and of answers: each as sums per image, and the number made of them.

The docstrings of the functions here are the definitions that docs/results.md speaks of.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from emma_viz.data.tabletop import KINDS, named_kinds
from emma_viz.lens.quality import psnr, ssim
from emma_viz.lens.ridge import RidgeStatistics
from emma_viz.shapes import CHANNELS
from training.intervals import Columns, Statistic, ratio
from training.questions import Answered

OCTAVES = (1, 2, 4, 8, 16, 32)
"""Lower ends of the octaves of spatial frequency, cycles per image side; the last is open above."""


def residual_columns(
    decoded: Float[np.ndarray, "B T p p c"], true: Float[np.ndarray, "B T p p c"]
) -> dict[str, np.ndarray]:
    """The sums that R² is made of: squared error, and count, sum and squares of the true pixels per colour."""
    centred = true.reshape(len(true), -1, CHANNELS).astype(np.float64) - 0.5
    error = decoded.astype(np.float64) - true
    columns = {
        "residual": np.square(error).reshape(len(true), -1).sum(axis=1),
        "pixels": np.full(len(true), centred.shape[1], np.float64),
        "squares": np.square(centred).sum(axis=(1, 2)),
    }
    return columns | {f"sum{channel}": centred[..., channel].sum(axis=1) for channel in range(CHANNELS)}


def r2(sums: Columns) -> np.ndarray:
    """R²: 1 − Σ(decoded − true)² / Σ(true − mean colour)², over all pixels of all images, pixels as decoded (not
    clipped); the mean colour is that of the same images. One mean colour shown for everything has R² = 0."""
    between = sum(np.square(sums[f"sum{channel}"]) for channel in range(CHANNELS)) / sums["pixels"]
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 - np.asarray(sums["residual"]) / (sums["squares"] - between)


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


def octave_power(images: Float[np.ndarray, "B height width c"]) -> np.ndarray:
    """Power of each image in each octave of spatial frequency: |2-D Fourier transform|² of the pixels as decoded (not
    clipped, no window), summed over colours and over all frequencies whose length √(fx² + fy²), in cycles per image
    side, lies in the octave. The mean (frequency 0) is in none.

    Returns:
        float64 (B, octaves).
    """
    height, width = images.shape[1:3]
    power = np.square(np.abs(np.fft.rfft2(images, axes=(1, 2)))).sum(axis=-1)
    # rfft2 keeps one of two mirrored frequencies; the first column, and the last for an even width, stand alone.
    twice = np.full(power.shape[2], 2.0)
    twice[0] = 1.0
    if width % 2 == 0:
        twice[-1] = 1.0
    length = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width)[None] * width)
    number = np.digitize(length, OCTAVES)
    weighted = power * twice
    return np.stack([weighted[:, number == octave + 1].sum(axis=1) for octave in range(len(OCTAVES))], axis=1)


def spectrum(low: int) -> Statistic:
    """Power of the decoded images in the octave from `low` on, over that of the true ones; both summed over images. 1
    is a picture as sharp as the truth, 0 one without detail of that size; it says nothing about whether the detail
    is in the right place (R² does)."""
    return ratio(f"power{low}", f"true_power{low}")


PIXEL_MEASURES: dict[str, Statistic] = {"r2": r2, "psnr": ratio("psnr"), "ssim": ratio("ssim")}
"""Name → number, from the columns of a decoded picture; PSNR and SSIM are means over images."""

PROBE = ratio("probe_right", "probe_asked")
"""Class probe: share of the foreground patches of held-out scenes whose kind a linear read-out names."""

ACCURACY, YES_RATE = ratio("right", "asked"), ratio("yes", "asked")
"""Share of right answers; share of "Yes." among existence questions, half of whose true answers are "Yes."."""

F1 = ratio("named_right", "named", also_below="present", factor=2.0)
"""2 · right / (named + present), over kinds: harmonic mean of precision and recall of the kinds that captions name."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear:
    """A linear map of states, fitted by ridge regression."""

    weight: Float[Tensor, "D P"]
    bias: Float[Tensor, " P"]

    @torch.inference_mode()
    def __call__(self, states: Float[Tensor, "*any D"]) -> Float[Tensor, "*any P"]:
        """Apply it."""
        return states.float() @ self.weight + self.bias

    def patches(self, states: Float[Tensor, "B T D"], patch: int) -> Float[np.ndarray, "B T p p c"]:
        """Apply it and lay the numbers out as pixels."""
        return rearrange(self(states), "b t (h w c) -> b t h w c", h=patch, c=CHANNELS).numpy()


class LinearFit:
    """Ridge regressions from the states of several layers to one target, a batch at a time.

    The λ is the ridge lens's own.

    Args:
        count: layers.
    """

    def __init__(self, count: int):
        self.statistics = RidgeStatistics(layers=tuple(range(count)))

    def add(self, states: Float[Tensor, "Y N D"], target: Float[Tensor, "N P"]) -> None:
        """Add tokens, wherever they come from, with what is to be read from each."""
        if len(target):
            self.statistics.update(states[:, None], target[None, :, None, None])

    def result(self) -> list[Linear]:
        """The maps, one a layer."""
        weights, biases = self.statistics.solve()
        return [Linear(weight=weight, bias=bias) for weight, bias in zip(weights, biases, strict=True)]


def foreground(kinds: Int[np.ndarray, "B T"]) -> tuple[np.ndarray, Float[Tensor, "N K"]]:
    """Which patches belong to an object (at least a fifth of the patch, `training.scenes`), and the kind of each as a
    one-hot row: what a class probe is fitted on, on training scenes."""
    front = kinds > 0
    return front, torch.eye(len(KINDS))[torch.from_numpy(kinds[front].astype(np.int64)) - 1]


def probe_columns(
    probe: Linear, states: Float[Tensor, "B T D"], kinds: Int[np.ndarray, "B T"]
) -> dict[str, np.ndarray]:
    """Foreground patches of each image, and those whose kind has the highest score (ridge regression to one-hot kinds,
    fitted on foreground patches of training scenes)."""
    front = kinds > 0
    guess = probe(states).argmax(-1).numpy() + 1
    return {
        "probe_asked": front.sum(axis=1).astype(np.float64),
        "probe_right": (front & (guess == kinds)).sum(axis=1).astype(np.float64),
    }


def answer_columns(found: Iterable[Answered], scenes: int) -> dict[str, dict[str, np.ndarray]]:
    """Topic → questions asked, answered right and, for existence, answered "Yes.", per scene."""
    topics: dict[str, dict[str, np.ndarray]] = {}
    for each in found:
        names = ("asked", "right") if each.yes is None else ("asked", "right", "yes")
        columns = topics.setdefault(each.topic, {name: np.zeros(scenes) for name in names})
        columns["asked"][each.scene] += 1
        columns["right"][each.scene] += each.right
        if each.yes is not None:
            columns["yes"][each.scene] += each.yes
    return topics


def caption_columns(captions: Sequence[str], present: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    """Per scene: kinds that the caption names, kinds that are there, and kinds that are both."""
    named, there = [named_kinds(caption) for caption in captions], [frozenset(each) for each in present]
    return {
        "named": np.array([len(each) for each in named], np.float64),
        "present": np.array([len(each) for each in there], np.float64),
        "named_right": np.array([len(a & b) for a, b in zip(named, there, strict=True)], np.float64),
    }


def joined(parts: Sequence[Columns]) -> dict[str, np.ndarray]:
    """The columns of batches, one after another."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
