"""Held-out questions, each asked alone about its scene, and how many of them a model answers right."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import torch

from emma_viz.data.tabletop import (
    ABSENT_MODES,
    KIND_INDEX,
    Scene,
    Turn,
    absent_kind,
    caption_turn,
    color_turns,
    count,
    existence,
    make_scene,
    relation_turns,
    stream,
    where_turns,
)
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.models.vlm import VLM
from training.conversations import IGNORED, collate, encode_conversation

ASKED = 1
"""Purpose number of the stream that chooses a test scene's questions (far from the training conversations')."""


def scene_questions(scene: Scene) -> Iterator[tuple[str, Turn]]:
    """The questions about one held-out scene, as (topic, turn).

    Existence comes in pairs of one present and one absent kind, so that "Yes." and "No." are equally often right:
    "random" absent kinds are any, "popular" ones frequent, and "adversarial" ones usually lie beside something that
    is there.
    """
    rng = stream(scene.split, scene.index, 10_000 + ASKED)
    present = scene.kinds[int(rng.integers(len(scene.kinds)))]
    for mode in ABSENT_MODES:
        yield f"existence {mode}", existence(scene, present)
        yield f"existence {mode}", existence(scene, absent_kind(scene, rng, mode=mode))
    for turns in (color_turns(scene), where_turns(scene), relation_turns(scene, rng)):
        if turns:
            turn = turns[int(rng.integers(len(turns)))]
            yield turn.topic, turn
    most = max(scene.kinds, key=lambda kind: (scene.count(kind), KIND_INDEX[kind]))
    for turn in (count(scene, most), caption_turn(scene)):
        yield turn.topic, turn


@torch.inference_mode()
def answer_scores(
    vlm: VLM, features: np.ndarray, tokenizer: Tokenizer, *, split: str = "test", batch: int = 32
) -> dict[str, dict[str, float]]:
    """Share of right answers per topic, and how often the model says yes to existence.

    A right answer is right to its last token: then greedy generation writes exactly it, since every one of its tokens
    is the most likely after those before.

    Args:
        vlm: the model.
        features: (n, T, F), the encoder's features of the split's first n scenes.
        tokenizer: the model's.
        split: "val" or "test".
        batch: questions at a time.

    Returns:
        Topic → {"accuracy", "questions", and for existence "yes_rate"}.
    """
    vlm.eval()
    asked = [
        (n, topic, turn)
        for n in range(len(features))
        for topic, turn in scene_questions(make_scene(split, n))
    ]
    right, yes = defaultdict(list), defaultdict(list)
    for start in range(0, len(asked), batch):
        part = asked[start : start + batch]
        samples = [
            encode_conversation([(t.question, t.answer)], tokenizer, vlm.config.prompt_style)
            for _, _, t in part
        ]
        text = collate(samples, tokenizer.pad_id)
        seen = torch.from_numpy(np.asarray(features[[n for n, _, _ in part]])).float()
        out = vlm(features=seen, input_ids=text.ids, logits="text")
        guesses = out.logits[:, 1:].argmax(-1)
        hits = ((guesses == text.labels) | (text.labels == IGNORED)).all(1)
        for row, (_, topic, turn) in enumerate(part):
            right[topic].append(bool(hits[row]))
            if turn.topic == "existence":
                yes[topic].append(bool(hits[row]) == (turn.answer == "Yes."))
    scores = {
        topic: {"accuracy": float(np.mean(hits)), "questions": len(hits)} for topic, hits in right.items()
    }
    for topic, said in yes.items():
        scores[topic]["yes_rate"] = float(np.mean(said))
    return scores
