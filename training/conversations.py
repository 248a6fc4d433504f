"""Conversations as token ids and labels, in batches that are a function of their number."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from emma_viz.data.prompts import PromptStyle, Turn, wrap_turn
from emma_viz.data.tabletop import caption_turn, conversation, make_scene, stream
from emma_viz.data.tokenizer import Tokenizer

IGNORED = -100
"""Label of a position on which there is no loss."""

FIRST_QUESTIONS = 2
"""Purpose number of a scene's first random stream of questions; epoch e uses FIRST_QUESTIONS + e."""


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


def encode_conversation(
    pairs: Sequence[tuple[str, str]], tokenizer: Tokenizer, style: PromptStyle
) -> tuple[list[int], list[bool]]:
    """Question-answer pairs → ids, and for each id whether it belongs to an answer (its closing token too).

    Each turn is encoded by itself, as when the model is asked: a prompt's last token must not merge with the answer.
    """
    ids: list[int] = []
    answers: list[bool] = []
    turns = [turn for q, a in pairs for turn in (Turn(role="human", text=q), Turn(role="gpt", text=a))]
    for index, turn in enumerate(turns):
        piece = tokenizer.encode(wrap_turn(turn, index, style))
        ids += piece
        answers += [turn.role == "gpt"] * len(piece)
    return ids, answers


def collate(
    samples: Sequence[tuple[list[int], list[bool]]], pad_id: int, *, everything: bool = False
) -> TextBatch:
    """Pad samples to one length and shift their labels.

    Args:
        samples: ids, and which of them are answers.
        pad_id: fills the right end.
        everything: put a loss on the prompts too (text-only pre-training).
    """
    length = max(len(ids) for ids, _ in samples)
    out = torch.full((len(samples), length), pad_id, dtype=torch.long)
    labels = torch.full((len(samples), length), IGNORED, dtype=torch.long)
    for row, (ids, answers) in enumerate(samples):
        out[row, : len(ids)] = torch.tensor(ids)
        wanted = [
            token if everything or answer else IGNORED for token, answer in zip(ids, answers, strict=True)
        ]
        labels[row, : len(ids) - 1] = torch.tensor(wanted[1:])
    return TextBatch(ids=out, labels=labels, lengths=torch.tensor([len(ids) for ids, _ in samples]))


Sample = tuple[list[int], list[bool]]
"""Token ids, and which of them belong to an answer."""

GROUPED = 8
"""Batches whose samples are drawn together and sorted by length, so that little of a batch is padding."""


def scene_conversations(
    numbers: np.ndarray, epoch: int, tokenizer: Tokenizer, style: PromptStyle, *, captions: bool = False
) -> list[Sample]:
    """One conversation about each of some training scenes; another epoch asks other questions.

    Args:
        captions: ask for the caption alone.
    """
    samples = []
    for number in numbers:
        scene = make_scene("train", int(number))
        if captions:
            turns = [caption_turn(scene)]
        else:
            turns = conversation(scene, stream("train", int(number), FIRST_QUESTIONS + epoch))
        samples.append(encode_conversation([(t.question, t.answer) for t in turns], tokenizer, style))
    return samples


class ConversationStream:
    """Conversations about training scenes, in batches of similar length; a batch is a function of its step.

    Each epoch is a fresh permutation of all scenes and asks new questions.

    Args:
        tokenizer: turns text to ids.
        style: prompt style.
        batch: samples a batch.
        scenes: training scenes 0 … scenes − 1.
        seed: of the permutations.
        captions: ask for captions alone.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        style: PromptStyle,
        *,
        batch: int,
        scenes: int,
        seed: Sequence[int],
        captions: bool = False,
    ):
        self.tokenizer, self.style = tokenizer, style
        self.batch, self.scenes, self.seed, self.captions = batch, scenes, list(seed), captions
        self._group: tuple[int, list[tuple[np.ndarray, list[Sample]]]] = (-1, [])

    def batch_of(self, step: int) -> tuple[np.ndarray, list[Sample]]:
        """Scene numbers and conversations of one step."""
        group, place = divmod(step, GROUPED)
        if self._group[0] != group:
            self._group = (group, self._draw(group))
        return self._group[1][place]

    def _draw(self, group: int) -> list[tuple[np.ndarray, list[Sample]]]:
        size = self.batch * GROUPED
        positions = np.arange(group * size, (group + 1) * size)
        numbers, samples = np.empty(size, dtype=np.int64), []
        for epoch in np.unique(positions // self.scenes):
            inside = positions // self.scenes == epoch
            order = np.random.default_rng([*self.seed, 0, int(epoch)]).permutation(self.scenes)
            numbers[inside] = order[positions[inside] % self.scenes]
            asked = (numbers[inside], int(epoch), self.tokenizer, self.style)
            samples += scene_conversations(*asked, captions=self.captions)
        by_length = np.argsort([len(ids) for ids, _ in samples], kind="stable")
        batches = by_length.reshape(GROUPED, self.batch)
        shuffled = np.random.default_rng([*self.seed, 1, group]).permutation(GROUPED)
        return [(numbers[batches[i]], [samples[j] for j in batches[i]]) for i in shuffled]
