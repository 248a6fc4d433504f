"""What a model remembers between calls: a Mamba a constant amount per layer, however long the text, and attention the
keys and values of all tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class LayerState:
    """The memory of one mixer."""

    conv: Float[Tensor, "B J X"]
    """The last J = K − 1 inputs of the causal convolution, oldest first."""
    ssm: Float[Tensor, "B ..."]
    """State of the SSM in fp32: `B E N` (Mamba-1) or `B H P N` (Mamba-2)."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What takes memory."""
        return self.conv, self.ssm

    def first(self, count: int) -> "LayerState":
        """The memory of so many samples: the first ones, or each that of the one that all go on from."""
        if len(self.conv) == count:
            return self
        conv, ssm = (
            each[:count].expand(count, *each.shape[1:]).contiguous() for each in (self.conv, self.ssm)
        )
        return LayerState(conv=conv, ssm=ssm)

    def select(self, samples: Int[Tensor, " K"]) -> "LayerState":
        """The memory of some samples."""
        return LayerState(conv=self.conv[samples], ssm=self.ssm[samples])

    @classmethod
    def joined(cls, states: Sequence["LayerState"]) -> "LayerState":
        """The memory of the samples of several, in their order."""
        return cls(
            conv=torch.cat([state.conv for state in states]), ssm=torch.cat([state.ssm for state in states])
        )


@dataclass(frozen=True, kw_only=True)
class AttentionState:
    """The memory of one attention layer: of S places, some of which may be padding."""

    k: Float[Tensor, "B H S P"]
    """Keys, turned by their positions."""
    v: Float[Tensor, "B H S P"]
    """Values."""
    real: Bool[Tensor, "B S"]
    """False at padding, which nobody reads."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What takes memory."""
        return self.k, self.v, self.real

    def after(self, earlier: "LayerState | AttentionState | None") -> "AttentionState":
        """With what was seen before, by each sample, by more than these, or by one that all go on from."""
        if not isinstance(earlier, AttentionState):
            return self
        many = len(self.k)
        return AttentionState(
            k=torch.cat([earlier.k[:many].expand(many, -1, -1, -1), self.k], dim=2),
            v=torch.cat([earlier.v[:many].expand(many, -1, -1, -1), self.v], dim=2),
            real=torch.cat([earlier.real[:many].expand(many, -1), self.real], dim=1),
        )

    def select(self, samples: Int[Tensor, " K"]) -> "AttentionState":
        """The memory of some samples."""
        return AttentionState(k=self.k[samples], v=self.v[samples], real=self.real[samples])

    @classmethod
    def joined(cls, states: Sequence["AttentionState"]) -> "AttentionState":
        """The memory of the samples of several, in their order; shorter ones are padded."""
        longest = max(state.real.shape[1] for state in states)
        gaps = [longest - state.real.shape[1] for state in states]
        pairs = list(zip(states, gaps, strict=True))
        return cls(
            k=torch.cat([functional.pad(state.k, (0, 0, 0, gap)) for state, gap in pairs]),
            v=torch.cat([functional.pad(state.v, (0, 0, 0, gap)) for state, gap in pairs]),
            real=torch.cat([functional.pad(state.real, (0, gap)) for state, gap in pairs]),
        )


class MambaCache:
    """The states of all layers after the tokens seen so far.

    A forward pass given a cache starts from its states and replaces them by the new ones. An empty
    cache stands for the beginning of a text.
    """

    def __init__(self, n_layer: int):
        self.layers: list[LayerState | AttentionState | None] = [None] * n_layer
        self.offset: Int[Tensor, " B"] | None = None
        """Tokens that each sample has consumed; None before the first pass."""
        self.kept = True
        """Whether a later pass may go on from it; not where it only holds what one pass begins with."""

    @property
    def empty(self) -> bool:
        """Whether no token has been seen."""
        return self.offset is None

    def mixer_state(self, layer: int, count: int) -> LayerState | None:
        """The memory of a Mamba's mixer for so many samples: as `LayerState.first`."""
        state = self.layers[layer]
        assert not isinstance(state, AttentionState), "a cache belongs to one model"
        return None if state is None else state.first(count)

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
        twin.layers = [state if state is None else state.select(samples) for state in self.layers]
        twin.offset = None if self.offset is None else self.offset[samples]
        return twin

    @classmethod
    def joined(cls, caches: Sequence["MambaCache"]) -> "MambaCache":
        """One cache of the samples of several, in their order; each has seen something."""
        twin = cls(len(caches[0].layers))
        for index in range(len(twin.layers)):
            # Of one kind, that of the model.
            states: list[Any] = [state for cache in caches if (state := cache.layers[index]) is not None]
            twin.layers[index] = type(states[0]).joined(states)
        twin.offset = torch.cat([cache.offset for cache in caches if cache.offset is not None])
        return twin

    @property
    def nbytes(self) -> int:
        """Memory of the states."""
        tensors = [tensor for state in self.layers if state is not None for tensor in state.tensors]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def padded_positions(lengths: Int[Tensor, " B"], length: int) -> torch.Tensor:
    """Boolean mask `B L`, true where a right-padded batch holds no token."""
    return torch.arange(length, device=lengths.device)[None, :] >= lengths[:, None]
