"""What a step is given: conversations, and their images."""

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from training.loop.conversations import TextBatch
from training.vision_language.forks import Forks
from training.vision_language.pooling import pool_patches, pool_tokens


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

    def pooled(self, grid: tuple[int, int]) -> "BatchImages":
        """Known features and patches of the images shrunk by `POOL`."""
        features, patches = self.features, self.patches
        return replace(
            self,
            features=None if features is None else pool_tokens(features, grid),
            patches=None if patches is None else pool_patches(patches, grid),
        )


def known_images(images: np.ndarray, features: np.ndarray, *, patch: int) -> BatchImages:
    """Images that an encoder has seen.

    Args:
        images: uint8 (B, S, S, 3).
        features: (B, P, F), the encoder's output.
        patch: side of a patch, pixels.
    """
    pixels = torch.from_numpy(images).float() / 255
    return BatchImages(
        pixels=None,
        features=torch.from_numpy(features).float(),
        patches=rearrange(pixels, "B (R p) (C q) c -> B (R C) p q c", p=patch, q=patch),
        usable=torch.ones(len(images), dtype=torch.bool),
    )


@dataclass(frozen=True, kw_only=True)
class TrainingBatch:
    """Conversations about images, or conversations alone."""

    text: TextBatch
    images: BatchImages | None

    @property
    def n_labels(self) -> int:
        """Tokens with a loss."""
        return self.text.n_labels

    @property
    def tokens(self) -> int:
        """Text tokens without padding."""
        return int(self.text.lengths.sum())


@dataclass(frozen=True, kw_only=True)
class ForkedBatch:
    """Many conversations about each image, whose states are computed once: each conversation starts from them."""

    images: BatchImages
    forks: tuple[Forks, ...]
    pooled: bool
    """Whether image tokens are averaged in squares."""

    @property
    def n_labels(self) -> int:
        """Tokens with a loss."""
        return sum(part.text.n_labels for part in self.forks)

    @property
    def tokens(self) -> int:
        """Text tokens without padding."""
        return sum(int(part.text.lengths.sum()) for part in self.forks)


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
