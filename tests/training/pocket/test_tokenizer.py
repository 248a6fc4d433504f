"""The pocket family's tokenizer: short questions, and room for it in the models."""

from dataclasses import replace

import pytest

from emma_viz.data.prompts import build_prompt
from emma_viz.data.tabletop import DESCRIBE
from emma_viz.errors import TrainingError
from training.pocket import stages
from training.pocket.stages import Work
from training.pocket.tokenizer import tabletop_tokenizer

LENGTHS = {
    "Is there a spoon in the image?": 3,
    "Is there an apple in the image?": 3,
    "How many spoons are there?": 3,
    "What color is the spoon?": 3,
    "Where is the spoon?": 3,
    "Is the spoon above the cup?": 6,
    DESCRIBE: 1,
}


@pytest.fixture(scope="module")
def tokenizer():
    return tabletop_tokenizer(scenes=50)


def test_a_question_is_its_own_words_and_at_most_two_phrases(tokenizer):
    assert {text: len(tokenizer.encode(build_prompt(text, "in-out"))) for text in LENGTHS} == LENGTHS


def test_a_tokenizer_that_the_models_have_no_room_for_is_refused(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "tabletop_tokenizer", lambda: tokenizer)
    assert Work(tmp_path / "roomy", "tiny").tokenizer.vocab_size == tokenizer.vocab_size
    work = Work(tmp_path / "small", "pocket")
    small = replace(work.config.llm, vocab_size=tokenizer.vocab_size - 1)
    work.__dict__["config"] = replace(work.config, llm=small)  # in the place of the cached one
    with pytest.raises(
        TrainingError, match=rf"has {tokenizer.vocab_size} tokens .* has room for {tokenizer.vocab_size - 1}"
    ):
        _ = work.tokenizer
