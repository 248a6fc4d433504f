"""Patching between two checkpoints: states of one put into the other, as they are or through a fitted map.

Two checkpoints that share their beginning may share the directions of their states; others do not, and a raw exchange
between them says nothing. The map is a ridge regression between their states of the same tokens of other images. What
it brings must be compared with a map of which the pairs were shuffled, which knows the mean alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emma_viz.capture import Recorder
from emma_viz.errors import InputError
from emma_viz.evidence.case import Case
from emma_viz.evidence.patching import patches, states_of


@dataclass(frozen=True, kw_only=True, eq=False)
class StateMap:
    """From one checkpoint's states at a layer to another's."""

    weights: Float[Tensor, "D E"]
    offset: Float[Tensor, " E"]

    def __call__(self, states: Float[Tensor, "n D"]) -> Float[Tensor, "n E"]:
        """The other's states, as far as they are a linear function of these."""
        return (states.double() @ self.weights + self.offset).to(states.dtype)


def fit_map(
    first: Float[Tensor, "n D"],
    second: Float[Tensor, "n E"],
    *,
    strength: float = 1e-4,
    shuffle: int | None = None,
) -> StateMap:
    """A ridge regression from the first checkpoint's states to the second's.

    Args:
        first: states of many tokens.
        second: of the same tokens.
        strength: λ, of the mean variance of the first's dimensions.
        shuffle: a seed; the pairs are shuffled by it, and the map becomes the control of the one without.

    Raises:
        InputError: they are not of as many tokens, or too few.
    """
    if len(first) != len(second) or len(first) < 2:
        raise InputError(
            f"expected states of the same tokens, two at least, got {len(first)} and {len(second)}."
        )
    x, y = first.double(), second.double()
    if shuffle is not None:
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(shuffle))
        y = y[order.to(y.device)]
    middle, mean = x.mean(dim=0), y.mean(dim=0)
    x, y = x - middle, y - mean
    product = x.mT @ x
    ridge = strength * product.diagonal().mean() * torch.eye(len(product), dtype=x.dtype, device=x.device)
    weights = torch.linalg.solve(product + ridge, x.mT @ y)
    return StateMap(weights=weights, offset=mean - middle @ weights)


@torch.no_grad()
def exchange(
    source: Case,
    target: Case,
    layer: int,
    tokens: Sequence[int],
    *,
    through: StateMap | None = None,
    source_layer: int | None = None,
    taken: Sequence[int] | None = None,
) -> float:
    """The target's score when states of the source's run stand in its residual stream before a block.

    Args:
        source: an image and question of one checkpoint.
        target: the same of another, whose score is asked.
        layer: block of the target.
        tokens: positions in the target's run.
        through: from the source's states to the target's; as they are when None.
        source_layer: block of the source, where it is another.
        taken: positions in the source's run, where they are others.

    Raises:
        InputError: the states have another width.
        SiteError: a layer does not exist.
    """
    at = layer if source_layer is None else source_layer
    states = states_of(source, ("resid_pre",), (at,))["resid_pre", at]
    given = states if through is None else through(states)
    said = "another checkpoint" + ("" if through is None else ", through a fitted map")
    change = patches({("resid_pre", layer): given}, tokens, source=said, taken=taken)
    return target.changed([[*change.values()]])[0]


def paired_states(
    first: Sequence[Case],
    second: Sequence[Case],
    layers: Sequence[int],
    second_layers: Sequence[int] | None = None,
) -> list[tuple[Float[Tensor, "n D"], Float[Tensor, "n E"]]]:
    """The states of both checkpoints' image tokens before each of some blocks, of the same images, to fit maps from.

    Image tokens stand before the text and know nothing of it, so that they are run alone, once for all layers.

    Args:
        first: cases of one checkpoint.
        second: those of the other, of the same images in the same order.
        layers: of the first checkpoint, zero-based.
        second_layers: of the second one, as many; `layers` when None.

    Returns:
        For each layer the states of both, tokens in the same order.

    Raises:
        InputError: the checkpoints have different numbers of image tokens.
    """
    counts = np.array([[each.count for each in some] for some in (first, second)])
    if counts.shape[1] == 0 or len(np.unique(counts)) != 1:
        raise InputError(
            f"expected as many image tokens from both checkpoints, got {np.unique(counts).tolist()}."
        )
    wanted = (layers, layers if second_layers is None else second_layers)
    found = [_image_states(some, at) for some, at in zip((first, second), wanted, strict=True)]
    return list(zip(*found, strict=True))


@torch.no_grad()
def _image_states(
    cases: Sequence[Case], layers: Sequence[int], *, batch_size: int = 8
) -> list[Float[Tensor, "n D"]]:
    """The states of all cases' image tokens before each of some blocks of their one model."""
    llm, names = cases[0].vlm.llm, dict.fromkeys(layers)
    parts: dict[int, list[Tensor]] = {layer: [] for layer in names}
    for start in range(0, len(cases), batch_size):
        tokens = torch.cat([each.tokens for each in cases[start : start + batch_size]])
        with Recorder(llm, "resid_pre", layers=tuple(names), device=tokens.device) as kept:
            cases[start].vlm.states(tokens)
        for layer, some in parts.items():
            some.append(kept["resid_pre", layer].flatten(0, 1))
    return [torch.cat(parts[layer]) for layer in layers]
