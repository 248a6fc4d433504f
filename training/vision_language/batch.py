"""What a step is given: conversations as token ids, and their images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from emma_viz.data.prompts import PromptStyle, Turn
from emma_viz.data.tabletop import SceneTurn
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.records.llava import IGNORE, LlavaRecord, conversation_tokens
from training.loop.distribution import Engine
from training.loop.run import Part

LONG = 6
"""One sample in this many, the longest, is padded apart from the others (captions beside questions)."""


Sample = tuple[list[int], list[bool]]
"""Token ids, and which of them belong to an answer."""


@dataclass(frozen=True, kw_only=True)
class TextBatch:
    """Conversations, padded on the right.

    Attributes:
        ids: token ids.
        labels: the id that position t must predict, i.e. ids[t + 1] where that belongs to an answer; else -100.
        lengths: tokens before the padding.
    """

    ids: Int[Tensor, "B M"]
    labels: Int[Tensor, "B M"]
    lengths: Int[Tensor, " B"]

    @property
    def n_labels(self) -> int:
        """Tokens with a loss."""
        return int((self.labels != IGNORE).sum())


def encode_conversation(pairs: Sequence[tuple[str, str]], tokenizer: Tokenizer, style: PromptStyle) -> Sample:
    """Question-answer pairs → ids, and for each id whether it belongs to an answer (its closing token too).

    Each turn is encoded by itself, as when the model is asked: a prompt's last token must not merge with the answer.
    """
    turns = tuple(turn for q, a in pairs for turn in (Turn(role="human", text=q), Turn(role="gpt", text=a)))
    record = LlavaRecord(index=0, id="0", image=None, turns=turns)
    ids, labels = conversation_tokens(record, tokenizer, style)
    return ids, [label != IGNORE for label in labels]


def collate(samples: Sequence[Sample], pad_id: int) -> TextBatch:
    """Pad samples to one length and shift their labels.

    Args:
        samples: ids, and which of them are answers.
        pad_id: fills the right end.
    """
    length = max(len(ids) for ids, _ in samples)
    out = torch.full((len(samples), length), pad_id, dtype=torch.long)
    labels = torch.full((len(samples), length), IGNORE, dtype=torch.long)
    for row, (ids, answers) in enumerate(samples):
        out[row, : len(ids)] = torch.tensor(ids)
        wanted = [token if answer else IGNORE for token, answer in zip(ids, answers, strict=True)]
        labels[row, : len(ids) - 1] = torch.tensor(wanted[1:])
    return TextBatch(ids=out, labels=labels, lengths=torch.tensor([len(ids) for ids, _ in samples]))


def prompt_labels(text: TextBatch) -> Int[Tensor, "B M"]:
    """The other labels of a batch: the next token where that belongs to a prompt; else -100."""
    labels = torch.full_like(text.labels, IGNORE)
    places = torch.arange(text.ids.shape[1] - 1)
    wanted = (text.labels[:, :-1] == IGNORE) & (places < text.lengths[:, None] - 1)
    labels[:, :-1][wanted] = text.ids[:, 1:][wanted]
    return labels


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


@dataclass(frozen=True, kw_only=True)
class BatchShare:
    """What one process computes in one step.

    Attributes:
        parts: the batches, one after the other.
        images: usable images in them.
    """

    parts: tuple[TrainingBatch | ForkedBatch, ...]
    images: int

    @property
    def labels(self) -> int:
        """Tokens with a loss in them."""
        return sum(part.n_labels for part in self.parts)

    def losses(self, task: nn.Module, engine: Engine) -> list[Part]:
        """What computes them, one after the other, as `Run.train` takes it."""
        totals = engine.total({"labels": float(self.labels), "images": float(self.images)})
        shares = {"labels": max(1.0, totals["labels"]), "images": totals["images"]}
        return [partial(task, part, **shares) for part in self.parts]


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
