"""What a step is given: conversations, and their images."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from emma_viz.data.prompts import PromptStyle
from emma_viz.data.tabletop import SceneTurn
from emma_viz.data.tokenizer import Tokenizer
from training.loop.conversations import Sample, TextBatch, collate, encode_conversation

LONG = 6
"""One sample in this many, the longest, is padded apart from the others (captions beside questions)."""


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


def known_images(images: np.ndarray, features: np.ndarray, rows: np.ndarray, *, patch: int) -> BatchImages:
    """Images that an encoder has seen.

    Args:
        images: uint8 (n, S, S, 3).
        features: (n, P, F), the encoder's output.
        rows: which of them, (B,).
        patch: side of a patch, pixels.
    """
    pixels = torch.from_numpy(images[rows]).float() / 255
    return BatchImages(
        pixels=None,
        features=torch.from_numpy(features[rows]).float(),
        patches=rearrange(pixels, "B (R p) (C q) c -> B (R C) p q c", p=patch, q=patch),
        usable=torch.ones(len(rows), dtype=torch.bool),
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
class Forks:
    """Texts that each start after one of the prefixes of a batch.

    Attributes:
        owners: the prefix that each text follows.
        order: the number of each text among the turns that `make_forks` was given.
        text: the texts.
    """

    owners: Int[Tensor, " K"]
    order: tuple[int, ...]
    text: TextBatch


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


def make_forks(
    turns: Sequence[tuple[int, SceneTurn]], tokenizer: Tokenizer, style: PromptStyle
) -> tuple[Forks, ...]:
    """Single-turn conversations about the prefixes of a batch, in two groups by length.

    Args:
        turns: (the prefix's place in the batch, the question with its answer).
        tokenizer: the model's.
        style: the model's prompt style.
    """
    samples: list[Sample] = [
        encode_conversation([(turn.question, turn.answer)], tokenizer, style) for _, turn in turns
    ]
    order = np.argsort([len(ids) for ids, _ in samples], kind="stable")
    cut = len(order) - len(order) // LONG
    return tuple(
        Forks(
            owners=torch.tensor([turns[i][0] for i in part]),
            order=tuple(int(i) for i in part),
            text=collate([samples[i] for i in part], tokenizer.pad_id),
        )
        for part in (order[:cut], order[cut:])
        if len(part)
    )


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
