"""Many questions about one image: its states are computed once, and every question starts from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from emma_viz.data.prompts import PromptStyle
from emma_viz.data.tabletop import SceneTurn
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.models.cache import MambaCache
from emma_viz.models.language_model import MambaBackbone
from training.loop.conversations import Sample, TextBatch, collate, encode_conversation

LONG = 6
"""One sample in this many, the longest, is padded apart from the others (captions beside questions)."""


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


def run_prefix(
    backbone: MambaBackbone, embeddings: Float[Tensor, "B L D"], lengths: Int[Tensor, " B"] | None = None
) -> tuple[Float[Tensor, "B L D"], MambaCache]:
    """The prefixes' final states token by token, and what the model remembers at their ends, with gradients."""
    cache = MambaCache(len(backbone.layers))
    hidden = backbone(embeddings, cache=cache, lengths=lengths)
    return hidden, cache


def run_forks(
    backbone: MambaBackbone, prefixes: MambaCache, forks: Sequence[Forks]
) -> list[tuple[Float[Tensor, "K M D"], TextBatch]]:
    """The texts' final states, each computed as if its prefix stood before it.

    A Mamba model sees the past through the states of its layers alone, so this equals running each text behind a
    copy of its prefix, in values and gradients.
    """
    found = []
    for part in forks:
        embeddings = backbone.embedding(part.text.ids)
        hidden = backbone(embeddings, cache=prefixes.select(part.owners))
        found.append((hidden, part.text))
    return found
