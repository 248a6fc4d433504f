"""A language model without images is recorded from texts, or from token ids without a tokenizer."""

from dataclasses import replace

import pytest
import torch

from emma_viz.capture import record
from emma_viz.checkpoints import LoadedLanguageModel
from emma_viz.errors import InputError
from emma_viz.study import open_study

TEXTS = ["A cup.", "A table with a cup on it"]


@pytest.fixture
def alone(one):
    """The language model of a tiny model, without the rest of it."""
    info = replace(one.info, family="language-model", grid=None, prompt_style=None, taps=())
    return LoadedLanguageModel(llm=one.vlm.llm, tokenizer=one.tokenizer, info=info)


def test_texts_give_the_states_and_answers_of_a_plain_pass(alone):
    trace = record(alone, None, TEXTS, sites=["resid_post", "norm_f"], max_new_tokens=3)
    assert trace.token_kind == "text"
    assert trace.prompts == tuple(TEXTS)
    for sample, text in enumerate(TEXTS):
        ids = alone.tokenizer.encode(text)
        with torch.no_grad():
            final = alone.llm.backbone(alone.llm.embed(torch.tensor([ids])))
        torch.testing.assert_close(trace.ragged("norm_f", 2)[sample], final[0], rtol=1e-4, atol=1e-4)
        assert trace.answer_ids[sample][0] == int(alone.llm.logits(final[:, -1:])[0, 0, :258].argmax())
    assert trace.answers == tuple(map(alone.tokenizer.answer, trace.answer_ids))


@pytest.mark.parametrize(
    "given", [[3, 4, 5], [[3, 4, 5]], torch.tensor([[3, 4, 5]]), torch.tensor([3, 4, 5])]
)
def test_ids_need_no_tokenizer(alone, given):
    bare = replace(alone, tokenizer=None)
    trace = record(bare, None, given, max_new_tokens=2)
    assert trace.prompt_ids == ((3, 4, 5),)
    assert trace.prompts == ("3 4 5",)
    assert trace.answers == ()
    same = record(alone, None, given, max_new_tokens=2)
    assert trace.answer_ids == same.answer_ids
    assert torch.equal(trace["resid_post"], same["resid_post"])


def test_what_does_not_fit_says_so(alone):
    bare = replace(alone, tokenizer=None)
    with pytest.raises(InputError, match="loaded without a tokenizer"):
        record(bare, None, "A cup.")
    with pytest.raises(InputError, match="as a list of token ids; got \\[\\]"):
        record(bare, None, [[1, 2], []])
    with pytest.raises(InputError, match="Token ids must lie in"):
        record(bare, None, [10**6])
    with pytest.raises(InputError, match="no image tokens"):
        record(bare, None, [1, 2], tokens="image")


def test_such_a_trace_is_kept_in_a_study(alone, tmp_path, assert_same):
    trace = record(alone, None, TEXTS, max_new_tokens=2)
    open_study(tmp_path / "study", create=True).add_trace(trace, "texts")
    assert_same(open_study(tmp_path / "study")["texts"], trace)


def test_ids_are_read_without_the_template_of_a_model_with_images(one, photos):
    ids = one.tokenizer.encode(one.prompt("What?"))
    asked = record(one, photos[0], "What?", max_new_tokens=2)
    given = record(one, photos[0], ids, max_new_tokens=2)
    assert given.prompt_ids == asked.prompt_ids == (tuple(ids),)
    assert given.answer_ids == asked.answer_ids
