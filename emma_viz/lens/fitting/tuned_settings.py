"""The budget of a tuned lens, and the plan of its steps."""

import math
from dataclasses import dataclass

from emma_viz.errors import InputError


@dataclass(frozen=True, kw_only=True)
class TunedSettings:
    """The budget of a tuned lens. Lenses that stand side by side must have been given the same."""

    steps: int = 2000
    """Optimiser steps."""
    batch: int = 16
    """Images a step."""
    layers_per_step: int = 4
    """Layers a step, each decoded from those images: batch × layers_per_step sequences go through the decoder.
    Every layer is trained equally often."""
    lr: float = 1e-3
    """Peak learning rate of AdamW; cosine decay to 0."""
    weight_decay: float = 0.01
    """On matrices; biases and other vectors have none. It draws a translator towards the identity."""
    warmup: float = 0.03
    """Share of the steps in which the rate grows from 0 to its peak."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    calibration: int = 64
    """Images whose states set the scale of each channel, the first of the training images."""
    seed: int = 0
    """Of the fresh weights and of the order of images and layers."""

    def __post_init__(self):
        if (
            min(self.steps, self.batch, self.layers_per_step, self.calibration) < 1
            or not 0 <= self.warmup < 1
        ):
            raise InputError(
                "TunedSettings: steps, batch, layers_per_step and calibration must be at least 1 and warmup lie "
                f"in [0, 1); got {self}."
            )

    def samples_of(self, step: int, n_images: int) -> list[int]:
        """The images of a step: each once in every pass, in an order of its own."""
        return groups_of_step(step, n_images, self.batch, seed=(self.seed, 0))

    def rows_of(self, step: int, n_layers: int) -> list[int]:
        """The layers of a step, ascending, counted from 0: each once in every round."""
        return sorted(groups_of_step(step, n_layers, self.layers_per_step, seed=(self.seed, 1)))

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        warm = max(1, round(self.warmup * self.steps))
        if step < warm:
            return self.lr * (step + 1) / warm
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))


def groups_of_step(step: int, n: int, size: int, *, seed: tuple[int, ...]) -> list[int]:
    """The group of 0 … n − 1 that a step takes: a function of its arguments alone, so a run can go on anywhere.

    The numbers are shuffled and cut into groups of at most `size`, as even as possible; when all groups were
    taken, they are shuffled anew.
    """
    import numpy as np  # slow to load, and a command line's help needs the defaults alone

    n_groups = math.ceil(n / size)
    order = np.random.default_rng((*seed, step // n_groups)).permutation(n)
    return np.array_split(order, n_groups)[step % n_groups].tolist()
