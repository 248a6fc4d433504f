"""Held-out questions, each asked alone about its scene, and how many of them a model answers right."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from emma_viz.data.tabletop import SceneTurn, make_scene, scene_questions
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.models.vlm import VLM
from emma_viz.records.llava import IGNORE
from training.vision_language.batch import make_forks
from training.vision_language.forks import pool_tokens, run_forks, run_prefix

_AT_ONCE = 16
"""Images at a time."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One question, as a model answered it."""

    scene: int
    """The scene's number in its split."""
    topic: str
    """As `scene_questions` names it."""
    right: bool
    """Right to its last token: then greedy generation writes exactly the truth, since every one of its tokens is the
    most likely after those before."""
    yes: bool | None
    """Existence: whether the model said yes; None for other topics."""


@torch.inference_mode()
def answered(
    vlm: VLM,
    tokenizer: Tokenizer,
    count: int,
    *,
    features: Callable[[range], np.ndarray],
    asked: Callable[[int], Iterable[tuple[str, SceneTurn]]],
    pooled: bool = False,
) -> Iterator[Answered]:
    """Ask held-out questions about images, each question alone.

    Args:
        vlm: the model.
        tokenizer: its own.
        count: images, by number from 0.
        features: numbers → (n, T, F), the encoder's features of those images.
        asked: number → topics and questions about an image.
        pooled: whether to show averaged tokens, as in pooled phases of training.
    """
    vlm.eval()
    backbone, style = vlm.llm.backbone, vlm.config.prompt_style
    for first in range(0, count, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, count))
        turns = [(place, *each) for place, number in enumerate(numbers) for each in asked(number)]
        tokens = vlm.embed_image(features=torch.from_numpy(np.array(features(numbers))).float())
        _, states = run_prefix(backbone, pool_tokens(tokens, vlm.grid) if pooled else tokens)
        forks = make_forks([(place, turn) for place, _, turn in turns], tokenizer, style)
        for (after, text), part in zip(run_forks(backbone, states, forks), forks, strict=True):
            guesses = vlm.llm.logits(after).argmax(-1)
            hits = ((guesses == text.labels) | (text.labels == IGNORE)).all(1)
            for hit, number in zip(hits.tolist(), part.order, strict=True):
                place, topic, turn = turns[number]
                yes = hit == (turn.answer == "Yes.") if turn.topic == "existence" else None
                yield Answered(scene=first + place, topic=topic, right=hit, yes=yes)


def tabletop_answers(
    vlm: VLM, features: np.ndarray, tokenizer: Tokenizer, *, split: str = "test"
) -> Iterator[Answered]:
    """Every question of `scene_questions` about the first scenes of a split.

    Args:
        vlm: the model.
        features: (n, T, F), the encoder's features of the split's first n scenes.
        tokenizer: the model's.
        split: "val" or "test".
    """
    return answered(
        vlm,
        tokenizer,
        len(features),
        features=lambda numbers: features[numbers.start : numbers.stop],
        asked=lambda number: scene_questions(make_scene(split, number)),
    )


def answer_scores(
    vlm: VLM, features: np.ndarray, tokenizer: Tokenizer, *, split: str = "test"
) -> dict[str, dict[str, float]]:
    """Share of right answers per topic, and how often the model says yes to existence; see `tabletop_answers`.

    Returns:
        Topic → {"accuracy", "questions", and for existence "yes_rate"}.
    """
    return scores_of(tabletop_answers(vlm, features, tokenizer, split=split))


def scores_of(answers: Iterable[Answered]) -> dict[str, dict[str, float]]:
    """What `answer_scores` gives, of answers."""
    by_topic: defaultdict[str, list[Answered]] = defaultdict(list)
    for each in answers:
        by_topic[each.topic].append(each)
    scores: dict[str, dict[str, float]] = {}
    for topic, found in by_topic.items():
        scores[topic] = {
            "accuracy": float(np.mean([each.right for each in found])),
            "questions": len(found),
        }
        said = [each.yes for each in found if each.yes is not None]
        if said:
            scores[topic]["yes_rate"] = float(np.mean(said))
    return scores
