"""Attribution by taking groups of image tokens away: occlusion, feature ablation and Shapley values, by Captum.

A group's tokens are replaced by a baseline, such as the mean token of other images. Ablation and occlusion ask what one
group costs while all others are there; a Shapley value is what a group adds on the average over all orders in which
groups can come (Castro et al. 2009), so that redundant groups do not hide one another, and the values sum to the whole
difference.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from emma_viz.errors import InputError
from emma_viz.evidence.case import Case


@dataclass(frozen=True, kw_only=True, eq=False)
class Shapley:
    """What each group of tokens adds to the score, the mean over orders."""

    values: Float[np.ndarray, " n"]
    """Nats; they sum to `score − baseline`, in every order."""
    errors: Float[np.ndarray, " n"]
    """Standard errors, over pairs of an order and its reverse."""
    score: float
    baseline: float
    """The score when every token is the baseline's."""
    orders: int

    @property
    def gap(self) -> float:
        """What the values leave of the difference: rounding."""
        return self.score - self.baseline - float(self.values.sum())


def superpatches(grid: tuple[int, int], parts: int) -> Int[np.ndarray, "R C"]:
    """The image's tokens in about `parts`² groups, as even as the grid allows: the number of each token's group.

    Raises:
        InputError: there is no part.
    """
    if parts < 1:
        raise InputError(f"expected at least one part of each side, got {parts}.")
    rows, columns = (np.arange(side) * min(parts, side) // side for side in grid)
    return rows[:, None] * min(parts, grid[1]) + columns


def ablate(
    case: Case, baseline: Float[Tensor, " D"], groups: Int[np.ndarray, "R C"], *, batch_size: int = 16
) -> Float[np.ndarray, " n"]:
    """By how much the score falls without each group.

    Args:
        case: image, text and the two words.
        baseline: what stands in the place of each token of the group.
        groups: of each token, from 0 on, none left out.
        batch_size: runs at a time.

    Raises:
        InputError: the groups are not of this image, or a number is left out.
    """
    from captum.attr import FeatureAblation  # slow to import, and only needed here

    run = _Run(case, baseline, groups)
    found = FeatureAblation(run.score).attribute(
        run.tokens, baselines=run.baseline, feature_mask=run.mask, perturbations_per_eval=batch_size
    )
    return run.of_groups(found)


def occlude(
    case: Case,
    baseline: Float[Tensor, " D"],
    grid: tuple[int, int],
    *,
    side: int = 3,
    stride: int = 1,
    batch_size: int = 16,
) -> Float[np.ndarray, "R C"]:
    """By how much the score falls when a window is laid over the image; of each token the mean over its windows.

    Args:
        case: image, text and the two words.
        baseline: what stands in the place of each token of the window.
        grid: rows and columns of the image's tokens.
        side: of the window, tokens.
        stride: of its steps, tokens.
        batch_size: runs at a time.

    Raises:
        InputError: the window is not inside the grid, or steps over tokens.
    """
    if not 1 <= stride <= side <= min(grid):
        raise InputError(f"expected 1 ≤ stride ≤ side ≤ {min(grid)}, got {stride} and {side}.")
    from captum.attr import Occlusion  # slow to import, and only needed here

    run = _Run(case, baseline, np.zeros(grid, np.int64))
    width = run.tokens.shape[-1]
    found = Occlusion(run.score).attribute(
        run.tokens,
        sliding_window_shapes=(side, side, width),
        strides=(stride, stride, width),
        baselines=run.baseline,
        perturbations_per_eval=batch_size,
    )
    return found[0, ..., 0].double().cpu().numpy()


def shapley(
    case: Case,
    baseline: Float[Tensor, " D"],
    groups: Int[np.ndarray, "R C"],
    *,
    pairs: int = 8,
    seed: int = 0,
    batch_size: int = 16,
) -> Shapley:
    """Shapley values of groups of tokens from random orders, each with its reverse.

    Args:
        case: image, text and the two words.
        baseline: what stands in the place of each token that has not come yet.
        groups: of each token, from 0 on, none left out.
        pairs: of orders; at least two, so that there is an error.
        seed: of the orders.
        batch_size: runs at a time.

    Raises:
        InputError: there are too few pairs; as `ablate`.
    """
    if pairs < 2:
        raise InputError(f"expected at least two pairs of orders, got {pairs}.")
    from captum.attr import ShapleyValueSampling  # slow to import, and only needed here

    run = _Run(case, baseline, groups)
    score, begun = case.scores([case.tokens[0], run.baseline[0].flatten(0, 1)])
    draw, found = np.random.default_rng(seed), []
    for _ in range(pairs):
        order = draw.permutation(run.count)
        both = []
        for each in (order, order[::-1].copy()):
            method = ShapleyValueSampling(run.score)
            # One order a call, so that every order's own values are known.
            method.permutation_generator = _only(each.tolist())  # ty: ignore[invalid-assignment]
            both.append(
                method.attribute(
                    run.tokens,
                    baselines=run.baseline,
                    feature_mask=run.mask,
                    n_samples=1,
                    perturbations_per_eval=batch_size,
                )
            )
        found.append(np.mean([run.of_groups(each) for each in both], axis=0))
    return Shapley(
        values=np.mean(found, axis=0),
        errors=np.std(found, axis=0, ddof=1) / np.sqrt(pairs),
        score=score,
        baseline=begun,
        orders=2 * pairs,
    )


def _only(order: list[int]) -> Callable[[int, int], Iterable[Sequence[int]]]:
    """What Captum asks for its orders: this one alone."""

    def orders(num_features: int, num_samples: int) -> Iterable[Sequence[int]]:
        return [order]

    return orders


class _Run:
    """A case as Captum takes it: tokens in their grid, and which group each is in."""

    def __init__(self, case: Case, baseline: Float[Tensor, " D"], groups: Int[np.ndarray, "R C"]):
        if groups.size != case.count or set(np.unique(groups)) != set(range(int(groups.max()) + 1)):
            raise InputError(
                f"expected a group for each of {case.count} tokens, numbered from 0 without a gap; got "
                f"{groups.size} tokens in groups {np.unique(groups)[:20].tolist()}."
            )
        self.case, self.groups, self.count = case, groups.ravel(), int(groups.max()) + 1
        self.tokens = rearrange(case.tokens.detach(), "1 (R C) D -> 1 R C D", R=groups.shape[0])
        self.baseline = baseline.to(self.tokens).expand_as(self.tokens)
        self.mask = torch.from_numpy(groups.astype(np.int64))[None, :, :, None].to(self.tokens.device)

    @torch.no_grad()
    def score(self, tokens: Float[Tensor, "k R C D"]) -> Float[Tensor, " k"]:
        return self.case.score(rearrange(tokens, "k R C D -> k (R C) D"))

    def of_groups(self, found: Float[Tensor, "1 R C D"]) -> Float[np.ndarray, " n"]:
        """The one value that all of a group's numbers are."""
        flat = found[0, ..., 0].double().cpu().numpy().ravel()
        first = np.array([np.flatnonzero(self.groups == each)[0] for each in range(self.count)])
        return flat[first]
