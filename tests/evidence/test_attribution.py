"""Attribution of a word to image tokens, against ablation and finite differences by hand."""

from copy import deepcopy
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from emma_viz.capture import record
from emma_viz.errors import InputError
from emma_viz.evidence.attribution import answer_words, attribute

PROMPT, BEFORE, WORD = "What is it?", (40, 41), (50, 51)


@pytest.fixture(scope="module")
def loud(model):
    """The tiny model with output weights large enough for its words to depend on the image."""
    vlm = deepcopy(model.vlm)
    with torch.no_grad():
        vlm.llm.backbone.embedding.weight.mul_(30)
    return replace(model, vlm=vlm)


def chance(model, photo, change=None, before=BEFORE, word=WORD):
    """The word's log-probability through the whole model; `change` edits the image tokens in a hook."""
    vlm = model.vlm
    prompt = model.tokenizer.encode(model.prompt(PROMPT))
    ids = torch.tensor([[*prompt, *before, *word]])
    handle = vlm.projector.register_forward_hook(lambda *args: change(args[-1]) if change else None)
    try:
        with torch.no_grad():
            logits = vlm(model.transform.pixels([photo]), ids, logits="text").logits[0]
    finally:
        handle.remove()
    # Row t of the text scores predicts text token t.
    rows = logits[len(prompt) + len(before) :][: len(word), : vlm.config.llm.vocab_size]
    return float(rows.log_softmax(-1)[torch.arange(len(word)), torch.tensor(word)].sum())


def moved(token, share):
    """A change that moves one image token towards the mean of all."""

    def change(tokens):
        tokens = tokens.clone()
        tokens[:, token] += share * (tokens.mean(dim=1) - tokens[:, token])
        return tokens

    return change


def test_knockout_is_ablation_by_hand(loud, photos):
    found = attribute(loud, photos[0], PROMPT, before=BEFORE, word=WORD, method="knockout", batch_size=3)
    whole = chance(loud, photos[0])
    assert found.values.shape == loud.vlm.grid
    assert found.score == pytest.approx(whole, abs=1e-5)
    flat = found.values.ravel()
    for token in (0, 1, len(flat) - 1):
        assert flat[token] == pytest.approx(whole - chance(loud, photos[0], moved(token, 1.0)), abs=2e-5)
    assert np.ptp(flat) > 1e-3  # the tokens differ, or the test would compare zeros


def test_gradient_is_the_slope_of_ablation(loud, photos):
    found = attribute(loud, photos[0], PROMPT, before=BEFORE, word=WORD)
    flat, step = found.values.ravel(), 0.05
    for token in (0, 2, len(flat) - 1):
        ahead, behind = (chance(loud, photos[0], moved(token, share)) for share in (step, -step))
        assert flat[token] == pytest.approx((behind - ahead) / (2 * step), rel=0.02, abs=2e-4)
    assert found.method == "gradient"


def test_gradient_leaves_the_model_as_it_was(one, photos):
    attribute(one, photos[0], PROMPT, word=WORD)
    assert all(parameter.grad is None for parameter in one.vlm.parameters())


def test_the_first_word_has_nothing_before_it(one, photos):
    trace = record(one, photos[1], PROMPT, max_new_tokens=2)
    (answer,) = trace.answer_ids
    found = attribute(one, photos[1], PROMPT, word=answer[:1])
    assert found.score == pytest.approx(chance(one, photos[1], before=(), word=answer[:1]), abs=1e-5)


def test_what_cannot_be_explained_is_refused(one, photos):
    with pytest.raises(InputError, match="no token"):
        attribute(one, photos[0], PROMPT, word=())
    with pytest.raises(InputError, match="no method 'magic'"):
        attribute(one, photos[0], PROMPT, word=WORD, method="magic")


@pytest.mark.parametrize(
    "text", ["A red cup, on a table.", "naïve — 日本 x", "", " two  spaces ", "\n A cup.\n\n", "   ", "日本 "]
)
def test_words_join_to_the_answer(tokenizer, text):
    """White space around it is shown nowhere, as in the released code, and belongs to no word."""
    ids = tokenizer.encode(text)
    words = answer_words(tokenizer, ids)
    assert "".join(word.text for word in words) == tokenizer.answer(ids) == text.strip()
    assert all(one.stop == two.start for one, two in pairwise(words))
    for word in words:
        assert word.text.strip() in tokenizer.decode(ids[word.start : word.stop])
    outside = [*ids[: words[0].start], *ids[words[-1].stop :]] if words else ids
    assert not tokenizer.decode(outside).strip()


def test_letters_of_one_word_stay_together(tokenizer):
    words = answer_words(tokenizer, tokenizer.encode("A cup, two."))
    assert [word.text.strip() for word in words if word.text.strip()] == ["A", "cup", ",", "two", "."]
