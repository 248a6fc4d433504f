"""Integrated gradients at the image tokens, by Captum, with a baseline that converges and a check that it did.

The path runs from the mean image token of other images. A baseline of zeros does not converge in a network whose blocks
begin with an RMS norm: all that changes, changes next to zero. Points are doubled until the sum of all attributions is
within a share of what it must be (Sundararajan et al. 2017, completeness), and a map that does not get there says so.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emma_viz.errors import InputError
from emma_viz.evidence.case import Case

CLOSE = 0.01
"""Of the difference between image and baseline, the largest gap of a complete attribution."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Integrated:
    """What each image token adds to the score on the way from the baseline."""

    values: Float[np.ndarray, " T"]
    """Nats; they sum to `score − baseline` less `gap`."""
    score: float
    baseline: float
    """The score of the baseline."""
    points: int
    """Gradients that were taken in the last, finest, pass."""

    @property
    def gap(self) -> float:
        """What the values leave of the difference."""
        return self.score - self.baseline - float(self.values.sum())

    @property
    def complete(self) -> bool:
        """Whether the gap is within CLOSE of the difference."""
        return abs(self.gap) <= CLOSE * abs(self.score - self.baseline)


def integrate(
    case: Case, baseline: Float[Tensor, " D"], *, points: int = 64, most: int = 512, batch_size: int = 16
) -> Integrated:
    """Integrated gradients of a case's score.

    Args:
        case: image, text and the two words.
        baseline: what stands at every image token at the path's beginning, such as the mean token of other images.
        points: to begin with; doubled until complete.
        most: the most points.
        batch_size: gradients at a time.

    Raises:
        InputError: there is no point.
    """
    if points < 1 or most < points:
        raise InputError(f"expected 1 ≤ points ≤ most, got {points} and {most}.")
    from captum.attr import IntegratedGradients  # slow to import, and only needed here

    start = baseline.to(case.tokens).expand_as(case.tokens)
    score, begun = case.scores([case.tokens[0], start[0]])
    method = IntegratedGradients(case.score)
    while True:
        with torch.enable_grad():
            found = method.attribute(
                case.tokens.detach(),
                baselines=start,
                n_steps=points,
                method="gausslegendre",
                internal_batch_size=batch_size,
            )
        values = found.detach().sum(dim=-1)[0].double().cpu().numpy()
        whole = Integrated(values=values, score=score, baseline=begun, points=points)
        if whole.complete or 2 * points > most:
            return whole
        points *= 2
