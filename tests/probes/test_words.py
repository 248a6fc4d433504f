"""Words at patches: lenses agree with the model where they must, and find a word that was planted."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from emma_viz.capture import Recorder
from emma_viz.errors import InputError
from emma_viz.evidence.class_words import TextStates, cosines, first_tokens, word_log_probabilities
from emma_viz.evidence.intervention import Intervention
from emma_viz.evidence.interventions import intervene
from emma_viz.metrics import auroc, mask_on_grid
from emma_viz.session.options import Asking
from emma_viz.session.road import Question, ask
from probes.content.words import Words
from probes.examination import Plan, examine
from probes.findings import find
from probes.protocol import Result
from tests.tiny_model import llama_tokenizer


def test_at_the_end_of_the_model_the_lens_is_its_own_prediction(tiny):
    ids = torch.tensor([tiny.tokenizer.encode("a red cup")])
    with torch.no_grad(), Recorder(tiny.vlm.llm, "resid_post") as kept:
        logits = tiny.vlm.llm(ids)[0, :, : tiny.vlm.llm.config.vocab_size].float()
    last = kept["resid_post", tiny.vlm.llm.config.n_layer - 1][0]
    found = word_log_probabilities(tiny, last, ["cup"])[:, 0]
    wanted = logits.log_softmax(-1)[:, list(first_tokens(tiny, "cup"))].amax(-1)
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)


def test_a_word_without_tokens_is_refused(tiny):
    with pytest.raises(InputError, match="expected a word"):
        first_tokens(tiny, " ")


def test_words_begin_with_their_own_tokens_where_a_tokenizer_writes_a_space_before_them(tiny):
    tokenizer, ids = llama_tokenizer("dog", "cat", "Dog", "Cat")
    assert tokenizer.encode(" dog") == [ids["▁"], ids["▁dog"]]
    model = replace(tiny, tokenizer=tokenizer)
    assert first_tokens(model, "dog") == (ids["▁dog"], ids["▁Dog"])
    assert first_tokens(model, "cat") == (ids["▁cat"], ids["▁Cat"])


def test_a_text_is_read_as_the_model_reads_it(tiny):
    layers = (-1, 0, 2)
    states = TextStates().of(tiny, "cup", layers)
    assert states.shape == (3, tiny.vlm.llm.config.d_model)
    embedding = tiny.vlm.llm.backbone.embedding.weight
    ends = [
        tiny.tokenizer.encode(text.format("cup"))[-1]
        for text in ("a photo of a {}", "There is a {}", "the {}")
    ]
    np.testing.assert_allclose(states[0].numpy(), embedding[ends].mean(0).detach().numpy(), atol=1e-6)


def test_cosines_are_about_the_means():
    draw = torch.Generator().manual_seed(0)
    states, words = torch.randn(6, 4, generator=draw), torch.randn(3, 4, generator=draw)
    found = cosines(states + 100, words)
    one, two = states - states.mean(0), words - words.mean(0)
    np.testing.assert_allclose(
        found, torch.cosine_similarity(one[:, None], two[None], dim=-1).numpy(), atol=1e-4
    )
    assert np.isnan(cosines(states, words[:1])).all()


@pytest.fixture(scope="module")
def result(tiny, scenes, tmp_path_factory):
    """What the probe finds in a model with random weights."""
    plan = Plan(
        probes=(Words(),), subjects=scenes, folder=tmp_path_factory.mktemp("seen"), save_seconds=0.0, quick=True
    )  # fmt: skip
    _, gathered = examine(tiny, plan)["words"]
    return Result(gathered=gathered, findings=find(Words().measures(gathered)))


def test_a_model_with_random_weights_names_nothing(result):
    areas = [each for lens in ("logit", "context") for each in result.curve(f"words.{lens}_area")]
    assert len(areas) == 2 * len(result.gathered.layers)
    assert sum(bool(each.beats) for each in areas) <= len(areas) * 0.2
    assert all(0.2 < each.number.value < 0.8 for each in areas)


def test_a_word_that_was_planted_on_an_object_is_found_there(tiny, scenes):
    """An object's tokens are given the state that the model has after a text that names it."""
    subject = scenes.take(0)
    texts = TextStates()
    words = [subject.kinds[0], "fox", "zeppelin", "violin"]
    bank = torch.stack([texts.of(tiny, word, (1, 2)) for word in words])
    question = Question(image=subject.image, prompt=subject.prompt)

    def asked():
        ((trace, _),) = ask(
            tiny, [question], asking=Asking(max_new_tokens=1), sites=["resid_post"], layers=[2]
        )
        return trace

    geometry = asked().geometry[0]
    covered = np.nan_to_num(mask_on_grid(subject.mask == 1, geometry)).ravel()
    inside = (covered >= 0.5) | (covered == covered.max())
    planted = Intervention(
        kind="replace", site="resid_pre", tokens=tuple(map(int, np.flatnonzero(inside))), layers=(2,),
        value=bank[0, 0].numpy(),
    )  # fmt: skip
    with intervene(tiny, [planted]):
        states = asked()["resid_post", 2][0, : len(inside)]
    found = cosines(states, bank[:, 1])
    assert auroc(found[:, 0], inside) > 0.9
    assert max(auroc(found[:, other], inside) for other in (1, 2, 3)) < auroc(found[:, 0], inside)
