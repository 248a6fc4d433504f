"""The tokenizer of the pocket models: byte-level BPE, trained on the tabletop world's English."""

from emma_viz.data.prompts import build_prompt
from emma_viz.data.tabletop import DESCRIBE, corpus, description, make_scene, questions, stream
from emma_viz.data.tokenizer import Tokenizer, train_tokenizer

VOCABULARY = 1024
"""Most tokens it may have; the world's words need fewer."""

PHRASES = (
    "In: Is there a",
    "In: Is there an",
    "In: Is the",
    "In: What color is the",
    "In: Where is the",
    "In: How many",
    "In: Describe the image in detail.\nOut: ",
    " in the image?\nOut: ",
    " are there?\nOut: ",
    "?\nOut: ",
)
"""What surrounds the words that questions differ in, as one token each. A question is then 3 tokens long where it would
be 12, and an hour of training has room for twice as many. Answers, and questions of other forms, go word by word."""


def tabletop_tokenizer(scenes: int = 4000) -> Tokenizer:
    """Train the tokenizer on every sentence form of the world, descriptions of its first scenes and questions."""
    lines = [build_prompt(DESCRIBE, "in-out"), build_prompt(DESCRIBE, "zephyr")] * 10 + corpus() * 2
    for index in range(scenes):
        scene = make_scene("train", index)
        rng = stream("train", index, purpose=2)
        lines.append(description(scene, rng))
        for turn in questions(scene, rng):
            lines += [build_prompt(turn.question, "in-out"), turn.answer]
    return train_tokenizer(lines, vocab_size=VOCABULARY, phrases=PHRASES)
