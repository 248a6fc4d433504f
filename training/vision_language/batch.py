"""What a step is given: conversations, and their images."""

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from training.loop.conversations import TextBatch


@dataclass(frozen=True, kw_only=True)
class BatchImages:
    """The images of a batch, one for each of its conversations."""

    pixels: tuple[Float[Tensor, "B 3 S S"], ...] | None
    """One normalised tensor a tower; None when the features are known."""
    features: Float[Tensor, "B P F"] | None
    """The frozen encoders' output; None when it is to be computed."""
    patches: Float[Tensor, "B T p p c"] | None
    """True pixels in [0, 1]; None when no loss needs them."""
    usable: Bool[Tensor, " B"]
    """False where the file could not be read: such a conversation has no loss."""


@dataclass(frozen=True, kw_only=True)
class TrainingBatch:
    """Conversations about images, or conversations alone."""

    text: TextBatch
    images: BatchImages | None

    @property
    def tokens(self) -> int:
        """Text tokens without padding."""
        return int(self.text.lengths.sum())


def moved(batch: TrainingBatch, device: torch.device) -> TrainingBatch:
    """A batch with all tensors on a device."""
    return _moved(batch, device)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, tuple):
        return tuple(_moved(each, device) for each in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{each.name: _moved(getattr(value, each.name), device) for each in fields(value)}
        )
    return value
