"""A case run again with something changed, against the same change made by hand."""

import numpy as np
import pytest
import torch

from emma_viz.capture import record
from emma_viz.errors import InputError
from emma_viz.evidence.case import Case
from emma_viz.evidence.integrated import integrate
from emma_viz.evidence.intervention import Intervention
from emma_viz.evidence.interventions import intervene
from tests.tiny_model import spaced_tokenizer, tiny_model

PROMPT = "What is it?"


@pytest.fixture
def case(one, photos):
    """The tiny model's two likeliest beginnings of an answer."""
    return Case.of(one, photos[0], PROMPT)


def test_the_score_is_the_models_own(one, photos, case):
    ids = torch.tensor([one.tokenizer.encode(one.prompt(PROMPT))])
    with torch.no_grad():
        logits = one.vlm(one.transform.pixels([photos[0]]), ids, logits="last").logits[0, 0]
    first, second = logits[: one.vlm.config.llm.vocab_size].topk(2).values.tolist()
    assert case.score(case.tokens).item() == pytest.approx(first - second, abs=1e-4)
    swapped = Case.of(one, photos[0], PROMPT, words=("No", "Yes"))
    plain = Case.of(one, photos[0], PROMPT, words=("Yes", "No"))
    assert swapped.score(case.tokens).item() == pytest.approx(-plain.score(case.tokens).item(), abs=1e-5)
    with pytest.raises(InputError, match="different tokens"):
        Case.of(one, photos[0], PROMPT, words=("Yes", "Yellow"))


def test_words_are_told_apart_by_the_tokens_that_stand_behind_the_prompt(photos):
    model = tiny_model("tiny-tinyllava", spaced_tokenizer())
    case = Case.of(model, photos[0], PROMPT, words=("Yes", "No"))
    assert [[case.word], [case.against]] == [model.tokenizer.encode(f" {word}") for word in ("Yes", "No")]
    assert case.words == (" Yes", " No")
    for words in (("Yes", ""), ("Yes",)):
        with pytest.raises(InputError, match="expected"):
            Case.of(model, photos[0], PROMPT, words=words)


def test_many_changed_runs_are_those_made_one_by_one(one, case):
    value = np.linspace(-1, 1, one.info.d_model, dtype=np.float32)
    runs = [
        [],
        [Intervention(kind="write", tokens=tuple(range(16)), layers=(0,))],
        [
            Intervention(kind="skip", tokens=tuple(range(8))),
            Intervention(kind="write", tokens=(15,), layers=(1,)),
        ],
        [Intervention(kind="replace", site="resid_pre", tokens=(14, 15, 16), layers=(1,), value=value)],
        [Intervention(kind="mean", site="mixer_out", tokens=tuple(range(16)), layers=(1,))],
        [Intervention(kind="edge", tokens=tuple(range(16)), readers=(case.length - 1,), layers=(0, 2))],
        [
            Intervention(kind="delete", tokens=(3, 4)),
            Intervention(kind="zero", site="mixer_in", tokens=(3,), layers=(1,)),
        ],
    ]
    found = case.changed(runs, batch_size=3)
    for run, score in zip(runs, found, strict=True):
        with intervene(one, run), torch.no_grad():
            alone = case.score(case.tokens).item()
        assert score == pytest.approx(alone, abs=1e-6)
    assert len({round(score, 6) for score in found}) == len(runs)
    with pytest.raises(InputError, match="positions"):
        case.changed([[Intervention(kind="write", tokens=(case.length,))]])


def test_changed_runs_behind_a_text_before_the_image_are_those_made_one_by_one(led, photos):
    """Early blocks have fewer samples than the runs, which all go on from what was read before."""
    case = Case.of(led, photos[0], PROMPT)
    last = led.info.n_layer - 1
    runs = [
        [],
        [Intervention(kind="zero", site="attn_out", tokens=(2, case.length - 1), layers=(1,))],
        [Intervention(kind="zero", site="mlp_out", tokens=(0, case.length - 1), layers=(last,))],
    ]
    found = case.changed(runs)
    for run, score in zip(runs, found, strict=True):
        with intervene(led, run), torch.no_grad():
            assert score == pytest.approx(case.score(case.tokens).item(), abs=1e-5)
    assert len({round(score, 5) for score in found}) == len(runs)


def test_patching_everything_is_the_clean_run_and_nothing_is_nothing(one, photos, case):
    other = Case.of(one, photos[1], PROMPT)
    trace = record(one, photos[0], PROMPT, sites=("resid_pre",), tokens="all", generate=False)
    every = [
        [
            Intervention(
                kind="replace",
                site="resid_pre",
                tokens=tuple(range(case.length)),
                layers=(layer,),
                value=trace["resid_pre", layer][0].numpy(),
            )
        ]
        for layer in range(one.info.n_layer)
    ]
    asked = Case(
        vlm=one.vlm,
        tokens=other.tokens,
        text=other.text,
        word=case.word,
        against=case.against,
        words=case.words,
    )
    np.testing.assert_allclose(asked.changed(every), case.changed([[]] * len(every)), rtol=0, atol=1e-5)
    assert asked.changed([[]])[0] == pytest.approx(asked.scores([asked.tokens[0]])[0], abs=1e-6)


def test_integrated_gradients_sum_to_the_difference_or_say_that_they_do_not(one, photos, case):
    mean = Case.of(one, photos[1], PROMPT).tokens[0].mean(dim=0)
    near = case.tokens[0].mean(dim=0) * 0.1 + mean * 0.9
    coarse = integrate(case, mean, points=1, most=1)
    assert coarse.complete == (abs(coarse.gap) <= 0.01 * abs(coarse.score - coarse.baseline))
    fine = integrate(case, near, points=16, most=256)
    assert fine.values.shape == (case.count,)
    assert abs(fine.gap) <= abs(integrate(case, near, points=1, most=1).gap)
    assert fine.score - fine.baseline == pytest.approx(fine.values.sum() + fine.gap, abs=1e-9)
    if not fine.complete:
        assert fine.points == 256
    with pytest.raises(InputError, match="points"):
        integrate(case, mean, points=0)


def test_a_small_change_is_what_the_gradient_says(case):
    away = 1e-3 * torch.ones_like(case.tokens[0, 0])
    tokens = case.tokens.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(case.score(tokens).sum(), tokens)
    before, after = case.scores([case.tokens[0], case.with_tokens([3], case.tokens[0, 3] - away)])
    assert before - after == pytest.approx(float(slope[0, 3] @ away), rel=0.05, abs=1e-4)
