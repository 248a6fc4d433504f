"""A linear read-out of states: ridge regression from the states of several layers to any target."""

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from emma_viz.lens.ridge import RidgeStatistics
from emma_viz.shapes import CHANNELS


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
