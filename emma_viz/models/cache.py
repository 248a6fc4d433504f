"""What a Mamba model remembers between calls: a constant amount per layer, however long the text."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LayerState:
    """The memory of one mixer."""

    conv: Float[Tensor, "B J X"]
    """The last J = K − 1 inputs of the causal convolution, oldest first."""
    ssm: Float[Tensor, "B ..."]
    """State of the SSM in fp32: `B E N` (Mamba-1) or `B H P N` (Mamba-2)."""


class MambaCache:
    """The states of all layers after the tokens seen so far.

    A forward pass given a cache starts from its states and replaces them by the new ones. An empty
    cache stands for the beginning of a text.
    """

    def __init__(self, n_layer: int):
        self.layers: list[LayerState | None] = [None] * n_layer
        self.offset: Int[Tensor, " B"] | None = None
        """Tokens that each sample has consumed; None before the first pass."""

    @property
    def empty(self) -> bool:
        """Whether no token has been seen."""
        return self.offset is None

    def advance(self, lengths: Int[Tensor, " B"]) -> None:
        """Count the tokens of a pass."""
        self.offset = lengths.clone() if self.offset is None else self.offset + lengths

    def copy(self) -> "MambaCache":
        """A cache that goes its own way from here (the states themselves are never changed in place)."""
        twin = MambaCache(len(self.layers))
        twin.layers, twin.offset = list(self.layers), self.offset
        return twin

    def select(self, samples: Int[Tensor, " K"]) -> "MambaCache":
        """The cache of some samples of the batch, in the order given."""
        twin = MambaCache(len(self.layers))
        twin.layers = [
            state if state is None else LayerState(conv=state.conv[samples], ssm=state.ssm[samples])
            for state in self.layers
        ]
        twin.offset = None if self.offset is None else self.offset[samples]
        return twin

    @classmethod
    def joined(cls, caches: Sequence["MambaCache"]) -> "MambaCache":
        """One cache of the samples of several, in their order; each has seen something."""
        twin = cls(len(caches[0].layers))
        for index in range(len(twin.layers)):
            states = [state for cache in caches if (state := cache.layers[index]) is not None]
            twin.layers[index] = LayerState(
                conv=torch.cat([state.conv for state in states]),
                ssm=torch.cat([state.ssm for state in states]),
            )
        twin.offset = torch.cat([cache.offset for cache in caches if cache.offset is not None])
        return twin

    @property
    def nbytes(self) -> int:
        """Memory of the states."""
        tensors = [tensor for state in self.layers if state is not None for tensor in (state.conv, state.ssm)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def padded_positions(lengths: Int[Tensor, " B"], length: int) -> torch.Tensor:
    """Boolean mask `B L`, true where a right-padded batch holds no token."""
    return torch.arange(length, device=lengths.device)[None, :] >= lengths[:, None]
