"""Held-out questions, each asked alone about its scene, and how many of them a model answers right."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import torch

from emma_viz.data.tabletop import (
    KIND_INDEX,
    Scene,
    Turn,
    absent_kind,
    caption_turn,
    color,
    count,
    existence,
    make_scene,
    relation,
    single_things,
    stream,
    where,
)
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.models.vlm import VLM
from training.conversations import IGNORED, collate, encode_conversation

ASKED = 1
"""Purpose number of the stream that chooses a test scene's questions (far from the training conversations')."""


def scene_questions(scene: Scene) -> Iterator[tuple[str, Turn]]:
    """The questions about one held-out scene, as (topic, turn).

    Existence comes in pairs of one present and one absent kind, so that "Yes." and "No." are equally often right:
    "random" absent kinds are any, "adversarial" ones usually lie beside something that is there.
    """
    rng = stream(scene.split, scene.index, 10_000 + ASKED)
    present = scene.kinds[int(rng.integers(len(scene.kinds)))]
    for mode in ("random", "adversarial"):
        yield f"existence {mode}", existence(scene, present)
        yield f"existence {mode}", existence(scene, absent_kind(scene, rng, mode=mode))
    single = single_things(scene)
    if coloured := [thing for thing in single if thing.colour]:
        yield "color", color(coloured[int(rng.integers(len(coloured)))])
    if single:
        yield "where", where(single[int(rng.integers(len(single)))])
    yield "count", count(scene, max(scene.kinds, key=lambda kind: (scene.count(kind), KIND_INDEX[kind])))
    pairs = [(a, b) for a in single for b in single if abs(a.x - b.x) >= 16]
    if pairs:
        first, second = pairs[int(rng.integers(len(pairs)))]
        yield "relation", relation(first, second, word=str(rng.choice(["left of", "right of"])))
    yield "caption", caption_turn(scene)


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
