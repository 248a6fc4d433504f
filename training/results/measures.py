"""What is measured of a decoded picture, of states and of answers: each as sums per image, and the number made of them.

The docstrings of the functions here are the definitions that docs/results.md speaks of.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emma_viz.lens.readout import Linear
from emma_viz.metrics.intervals import ratio
from training.pocket.questions import Answered

PROBE = ratio("probe_right", "probe_asked")
"""Class probe: share of the foreground patches of held-out scenes whose kind a linear read-out names."""

ACCURACY, YES_RATE = ratio("right", "asked"), ratio("yes", "asked")
"""Share of right answers; share of "Yes." among existence questions, half of whose true answers are "Yes."."""

F1 = ratio("named_right", "named", also_below="present", factor=2.0)
"""2 · right / (named + present), over kinds: harmonic mean of precision and recall of the kinds that captions name."""


def foreground(kinds: Int[np.ndarray, "B T"], n_kinds: int) -> tuple[np.ndarray, Float[Tensor, "N K"]]:
    """Which patches belong to an object (at least a fifth of the patch, `training.pocket.scenes`), and the kind of
    each as a one-hot row: what a class probe is fitted on, on training scenes."""
    front = kinds > 0
    return front, torch.eye(n_kinds)[torch.from_numpy(kinds[front].astype(np.int64)) - 1]


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
    """Topic → questions asked, answered right and, for existence, answered "Yes.", per picture."""
    topics: dict[str, dict[str, np.ndarray]] = {}
    for each in found:
        names = ("asked", "right") if each.yes is None else ("asked", "right", "yes")
        columns = topics.setdefault(each.topic, {name: np.zeros(scenes) for name in names})
        columns["asked"][each.scene] += 1
        columns["right"][each.scene] += each.right
        if each.yes is not None:
            columns["yes"][each.scene] += each.yes
    return topics


def caption_columns(
    named: Sequence[frozenset[str]], present: Sequence[frozenset[str]]
) -> dict[str, np.ndarray]:
    """Per picture: kinds that the caption names, kinds that are there, and kinds that are both."""
    return {
        "named": np.array([len(each) for each in named], np.float64),
        "present": np.array([len(each) for each in present], np.float64),
        "named_right": np.array([len(a & b) for a, b in zip(named, present, strict=True)], np.float64),
    }
