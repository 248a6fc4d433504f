"""Held-out questions, each asked alone about its scene, and how many of them a model answers right."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emma_viz.data.tabletop import SceneTurn, make_scene, scene_questions
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.models.vlm import VLM
from training.loop.conversations import IGNORED
from training.vision_language.forks import make_forks, run_forks, run_prefix


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
    vlm: VLM, features: np.ndarray, tokenizer: Tokenizer, *, split: str = "test", batch: int = 16
) -> Iterator[Answered]:
    """Ask every question of `scene_questions`, each alone.

    Args:
        vlm: the model.
        features: (n, T, F), the encoder's features of the split's first n scenes.
        tokenizer: the model's.
        split: "val" or "test".
        batch: scenes at a time.
    """
    vlm.eval()
    for start in range(0, len(features), batch):
        seen = torch.from_numpy(np.array(features[start : start + batch])).float()
        asked = [
            (place, topic, turn)
            for place in range(len(seen))
            for topic, turn in scene_questions(make_scene(split, start + place))
        ]
        yield from answers_about(vlm, vlm.embed_image(features=seen), asked, tokenizer, first=start)


@torch.inference_mode()
def answers_about(
    vlm: VLM,
    tokens: Float[Tensor, "B T D"],
    asked: Sequence[tuple[int, str, SceneTurn]],
    tokenizer: Tokenizer,
    *,
    first: int = 0,
) -> Iterator[Answered]:
    """Ask questions about images, each question alone.

    Args:
        vlm: the model.
        tokens: image tokens, as the language model takes them.
        asked: (the image's place among those, topic, question).
        tokenizer: the model's.
        first: number of the first image.
    """
    backbone, style = vlm.llm.backbone, vlm.config.prompt_style
    _, states = run_prefix(backbone, tokens)
    forks = make_forks([(place, turn) for place, _, turn in asked], tokenizer, style)
    for (after, text), part in zip(run_forks(backbone, states, forks), forks, strict=True):
        guesses = vlm.llm.logits(after).argmax(-1)
        hits = ((guesses == text.labels) | (text.labels == IGNORED)).all(1)
        for hit, number in zip(hits.tolist(), part.order, strict=True):
            place, topic, turn = asked[number]
            yes = hit == (turn.answer == "Yes.") if turn.topic == "existence" else None
            yield Answered(scene=first + place, topic=topic, right=hit, yes=yes)


def answer_scores(
    vlm: VLM, features: np.ndarray, tokenizer: Tokenizer, *, split: str = "test", batch: int = 16
) -> dict[str, dict[str, float]]:
    """Share of right answers per topic, and how often the model says yes to existence; arguments as `answered`.

    Returns:
        Topic → {"accuracy", "questions", and for existence "yes_rate"}.
    """
    return scores_of(answered(vlm, features, tokenizer, split=split, batch=batch))


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
