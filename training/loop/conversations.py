"""Conversations as token ids and labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from emma_viz.data.prompts import PromptStyle, Turn
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.records.llava import IGNORE as IGNORED
from emma_viz.records.llava import LlavaRecord, conversation_tokens

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
        return int((self.labels != IGNORED).sum())


def encode_conversation(pairs: Sequence[tuple[str, str]], tokenizer: Tokenizer, style: PromptStyle) -> Sample:
    """Question-answer pairs → ids, and for each id whether it belongs to an answer (its closing token too).

    Each turn is encoded by itself, as when the model is asked: a prompt's last token must not merge with the answer.
    """
    turns = tuple(turn for q, a in pairs for turn in (Turn(role="human", text=q), Turn(role="gpt", text=a)))
    record = LlavaRecord(index=0, id="0", image=None, turns=turns)
    ids, labels = conversation_tokens(record, tokenizer, style)
    return ids, [label != IGNORED for label in labels]


def collate(samples: Sequence[Sample], pad_id: int) -> TextBatch:
    """Pad samples to one length and shift their labels.

    Args:
        samples: ids, and which of them are answers.
        pad_id: fills the right end.
    """
    length = max(len(ids) for ids, _ in samples)
    out = torch.full((len(samples), length), pad_id, dtype=torch.long)
    labels = torch.full((len(samples), length), IGNORED, dtype=torch.long)
    for row, (ids, answers) in enumerate(samples):
        out[row, : len(ids)] = torch.tensor(ids)
        wanted = [token if answer else IGNORED for token, answer in zip(ids, answers, strict=True)]
        labels[row, : len(ids) - 1] = torch.tensor(wanted[1:])
    return TextBatch(ids=out, labels=labels, lengths=torch.tensor([len(ids) for ids, _ in samples]))


def prompt_labels(text: TextBatch) -> Int[Tensor, "B M"]:
    """The other labels of a batch: the next token where that belongs to a prompt; else -100."""
    labels = torch.full_like(text.labels, IGNORED)
    places = torch.arange(text.ids.shape[1] - 1)
    wanted = (text.labels[:, :-1] == IGNORED) & (places < text.lengths[:, None] - 1)
    labels[:, :-1][wanted] = text.ids[:, 1:][wanted]
    return labels
