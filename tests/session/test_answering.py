"""Answers without states: as those of a recording, with and without images, and their first tokens' probabilities."""

import numpy as np
import pytest
import torch

from emma_viz.capture import record
from emma_viz.checkpoints import load_model
from emma_viz.data import read_image
from emma_viz.errors import InputError
from emma_viz.records.questions import Question
from emma_viz.session import Asking
from emma_viz.session.answering import given_answers
from tests.tiny_model import spaced_tokenizer, tiny_model

ASKING = Asking(max_new_tokens=3)


@pytest.fixture(scope="module")
def model(pair):
    return load_model(pair.cobra, vision_source=str(pair.vision))


@pytest.fixture(scope="module")
def questions(photos):
    return [
        Question(image=photos[0], prompt="Is there a cup?"),
        Question(image=photos[0], prompt="Describe the image in detail."),
        Question(image=None, prompt="Is there a cup?"),
        Question(image=photos[1], prompt="A red cup"),
        Question(image=None, prompt="on a table"),
    ]


@pytest.fixture(scope="module")
def given(model, questions):
    return [each for batch in given_answers(model, questions, asking=ASKING, batch_size=4) for each in batch]


def test_answers_are_those_of_a_recording(model, questions, given):
    for question, each in zip(questions, given, strict=True):
        tokens = "text" if question.image is None else "image"
        seen = record(
            model, question.image, question.prompt, sites="resid_post", layers=[0], tokens=tokens,
            max_new_tokens=3,
        )  # fmt: skip
        assert each.answer.text == seen.answers[0]
        assert each.image_sha256 == (seen.image_hashes[0] if question.image is not None else None)


def test_probabilities_are_those_of_the_first_token_over_the_vocabulary(model, questions, given):
    yes, no = (model.tokenizer.encode(word)[0] for word in ("Yes", "No"))
    for question, each in zip(questions, given, strict=True):
        ids = torch.tensor([model.tokenizer.encode(model.prompt(question.prompt))])
        pixels = None
        if question.image is not None:
            pixels = model.transform.pixels([read_image(question.image)])
        with torch.no_grad():
            scores = model.vlm(pixels, ids, logits="last").logits[0, 0, : model.config.llm.vocab_size]
        chances = scores.softmax(dim=-1)
        np.testing.assert_allclose([each.answer.p_yes, each.answer.p_no], chances[[yes, no]], rtol=1e-4)


def test_the_first_token_is_what_stands_behind_the_prompt(photos):
    """TinyLLaVA's prompt ends with "ASSISTANT:", and an answer follows after a space."""
    model = tiny_model("tiny-tinyllava", spaced_tokenizer())
    ((yes,), (no,)) = (model.tokenizer.encode(f" {word}") for word in ("Yes", "No"))
    (((given,),),) = [given_answers(model, [Question(image=photos[0], prompt="A cup?")], asking=ASKING)]
    ids = torch.tensor([model.tokenizer.encode(model.prompt("A cup?"))])
    with torch.no_grad():
        pixels = model.transform.pixels([read_image(photos[0])])
        scores = model.vlm(pixels, ids, logits="last").logits[0, 0, : model.config.llm.vocab_size]
    np.testing.assert_allclose(
        [given.answer.p_yes, given.answer.p_no], scores.softmax(dim=-1)[[yes, no]], rtol=1e-4
    )


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_scores_that_are_no_numbers_end_in_a_sentence(pair, questions, temperature):
    model = load_model(pair.cobra, vision_source=str(pair.vision))
    model.vlm.llm.backbone.norm_f.weight.data[0] = float("inf")
    asking = Asking(max_new_tokens=2, temperature=temperature)
    said = (
        r"from cobra in float32 for the answer to 'Is there a cup\?' about .*coffee.png; .* another --dtype"
    )
    with pytest.raises(InputError, match=said):
        next(given_answers(model, questions, asking=asking))


def test_what_stands_beside_a_question_does_not_change_its_answer(model, questions, given):
    alone = [each for question in questions for (each,) in given_answers(model, [question], asking=ASKING)]
    assert [each.answer.text for each in alone] == [each.answer.text for each in given]


def test_drawn_answers_are_the_same_in_any_batch(model, questions):
    asking = Asking(max_new_tokens=4, temperature=1.0, seed=3)
    found = [
        [
            each.answer.text
            for batch in given_answers(model, questions, asking=asking, batch_size=size)
            for each in batch
        ]
        for size in (2, 5)
    ]
    assert found[0] == found[1]


def test_an_image_is_looked_at_once_however_many_batches_ask_about_it(model, photos, monkeypatch):
    seen = []
    prompts = ["Is there a cup?", "A red cup", "on a table", "Is there a cup?", "Is there a table?"]
    questions = [Question(image=photo, prompt=prompt) for photo in photos[:2] for prompt in prompts]
    plain = [each for question in questions for (each,) in given_answers(model, [question], asking=ASKING)]
    vision = model.vlm.vision.forward
    monkeypatch.setattr(
        model.vlm.vision, "forward", lambda pixels: seen.append(len(pixels[0])) or vision(pixels)
    )
    found = [each for batch in given_answers(model, questions, asking=ASKING, batch_size=2) for each in batch]
    assert sum(seen) == 2
    assert [each.image_sha256 for each in found] == [each.image_sha256 for each in plain]
    assert [each.answer.text for each in found] == [each.answer.text for each in plain]
