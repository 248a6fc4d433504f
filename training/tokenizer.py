"""The tokenizer of the pocket models: byte-level BPE, trained on the tabletop world's English."""

from emma_viz.data.prompts import build_prompt
from emma_viz.data.tabletop import DESCRIBE, corpus, description, make_scene, questions, stream
from emma_viz.data.tokenizer import Tokenizer, train_tokenizer

VOCABULARY = 1024
"""Most tokens it may have; the world's words need fewer."""


def tabletop_tokenizer(scenes: int = 4000) -> Tokenizer:
    """Train the tokenizer on every sentence form of the world, descriptions of its first scenes and questions."""
    lines = [build_prompt(DESCRIBE, "in-out"), build_prompt(DESCRIBE, "zephyr")] * 10 + corpus() * 2
    for index in range(scenes):
        scene = make_scene("train", index)
        rng = stream("train", index, purpose=2)
        lines.append(description(scene, rng))
        for turn in questions(scene, rng):
            lines += [build_prompt(turn.question, "in-out"), turn.answer]
    return train_tokenizer(lines, vocab_size=VOCABULARY)
