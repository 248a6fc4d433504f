"""How far content travels: against whole Jacobians, and in models whose states forget at once."""

from copy import deepcopy

import pytest
import torch

from emma_viz.capture import Recorder
from emma_viz.errors import InputError, SiteError
from emma_viz.evidence.mixers.frozen import held_stream
from emma_viz.evidence.mixers.routing import mixer_at
from emma_viz.evidence.mixers.travel import decay_back, half_life, influence, retained, written
from emma_viz.kernels import selective_scan, ssd
from emma_viz.models import Mamba1Mixer
from tests.tiny_model import tiny_model

LENGTH, AT = 24, 20


@pytest.fixture(scope="module")
def llm(model):
    return deepcopy(model.vlm.llm).double()


@pytest.fixture(scope="module")
def embeddings(llm):
    draw = torch.Generator().manual_seed(0)
    return torch.randn(1, LENGTH, llm.config.d_model, generator=draw, dtype=torch.float64)


def last_state(llm, embeddings):
    hidden, residual = embeddings, None
    for block in llm.backbone.layers:
        hidden, residual = block(hidden, residual)
    return (hidden + residual)[0, AT]


@pytest.mark.slow
@pytest.mark.parametrize("held", [False, True])
def test_it_is_the_norm_of_the_jacobian(llm, embeddings, held):
    def state(e):
        return held_stream(llm, e)[0, AT] if held else last_state(llm, e)

    whole = torch.autograd.functional.jacobian(state, embeddings)[:, 0]
    draw = torch.Generator().manual_seed(0)
    directions = torch.stack([torch.randn(len(whole), generator=draw) for _ in range(3)]).to(whole)
    expected = torch.einsum("vd,dle->vle", directions, whole).square().sum(dim=2).mean(dim=0).sqrt()
    found = influence(llm, embeddings, AT, draws=3, held=held)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)
    assert found[:AT].max() > 0


def test_held_the_stream_is_the_models_own(llm, embeddings):
    with torch.no_grad():
        own = last_state(llm, embeddings)
    torch.testing.assert_close(
        held_stream(llm, embeddings.clone().requires_grad_())[0, AT], own, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("held", [False, True])
def test_where_states_forget_at_once_nothing_travels_beyond_the_convolutions(llm, embeddings, held):
    """With A at minus infinity a block reaches d_conv − 1 tokens back, and all of them that many times."""
    forgetful = deepcopy(llm)
    with torch.no_grad():
        for block in forgetful.backbone.layers:
            block.mixer.A_log.fill_(25.0)
    reach = (llm.config.d_conv - 1) * len(llm.backbone.layers)
    assert AT - reach > 2, "a test without tokens beyond the reach could not fail"
    found = influence(forgetful, embeddings, AT, held=held)
    assert not found[: AT - reach].any()
    assert (found[AT - reach : AT + 1] > 0).all()
    remembering = influence(llm, embeddings, AT, held=held)
    assert (remembering[: AT - reach] > 0).all()


def test_decay_and_half_life_are_the_formula(llm):
    mixer = llm.backbone.layers[0].mixer
    rates = torch.exp(mixer.A_log.detach())
    draw = torch.Generator().manual_seed(1)
    delta = torch.rand(9, len(rates), generator=draw, dtype=torch.float64)
    found = decay_back(mixer, delta, 6)
    for j in range(7):
        passed = delta[j + 1 : 7].sum(dim=0)
        each = -rates * (passed[:, None] if isinstance(mixer, Mamba1Mixer) else passed)
        assert found[j] == pytest.approx(float(torch.exp(each).mean()))
    assert not found[7:].any()
    lives = half_life(mixer, delta)
    mean = rates.mean(dim=1) if rates.ndim == 2 else rates
    torch.testing.assert_close(torch.exp(-mean * delta.mean(dim=0) * lives), torch.full_like(mean, 0.5))


def test_what_is_retained_of_a_write_is_what_the_state_holds_when_nobody_else_writes(llm):
    mixer, draw = llm.backbone.layers[0].mixer, torch.Generator().manual_seed(2)
    config, first = mixer.config, isinstance(llm.backbone.layers[0].mixer, Mamba1Mixer)
    rates, width = -torch.exp(mixer.A_log.detach()), config.d_state * (1 if first else config.ngroups)
    delta = 0.3 * torch.rand(9, len(rates), generator=draw, dtype=torch.float64)
    u = torch.randn(6, config.d_inner, generator=draw, dtype=torch.float64)
    b = torch.randn(6, width, generator=draw, dtype=torch.float64)
    found = retained(mixer, delta, u, b)
    for token in range(6):
        alone, inputs = torch.zeros(1, 9, config.d_inner).double(), torch.zeros(1, 9, width).double()
        alone[0, token], inputs[0, token] = u[token], b[token]
        if first:
            _, state = selective_scan(alone, delta[None], rates, inputs, inputs, None, backend="reference")
        else:
            heads = alone.view(1, 9, config.n_heads, config.headdim)
            groups = inputs.view(1, 9, config.ngroups, config.d_state)
            _, state = ssd(heads, delta[None], rates, groups, groups, None, backend="reference")
        assert float(found[token]) == pytest.approx(float(state.norm()), rel=1e-6)


@pytest.mark.parametrize("name", ["tiny-emma-v1", "tiny-emma-v2", "tiny-matvlm", "tiny-mmmamba"])
@torch.no_grad()
def test_what_a_token_wrote_is_what_the_cache_holds_when_the_others_wrote_nothing(name, tokenizer):
    """Of every kind of mixer, hybrids' among them: the state of a run in which the others have B := 0."""
    llm = tiny_model(name, tokenizer).vlm.llm
    ids, layer = torch.tensor([[5, 17, 9, 40, 3]]), llm.config.mixer_layers[-1]
    mixer = mixer_at(llm, layer)
    with Recorder(llm, ["delta", "conv", "B"], layers=[layer]) as seen:
        llm(ids)
    delta, conv, b = (seen[site, layer][0] for site in ("delta", "conv", "B"))
    sizes, held = written(mixer, delta, conv, b), retained(mixer, delta, conv, b)
    for token in range(ids.shape[1]):
        alone = (torch.arange(ids.shape[1]) == token)[None, :, None]
        handle = mixer.hook_B.register_forward_hook(lambda module, args, value, only=alone: value * only)
        cache = llm.new_cache()
        llm(ids, cache=cache)
        handle.remove()
        found = float(cache.layers[layer].ssm.double().norm())
        assert float(held[token]) == pytest.approx(found, rel=1e-4)
    assert float(sizes[-1]) == pytest.approx(float(held[-1]), rel=1e-5)
    assert (sizes > held)[:-1].all()


def test_what_a_token_writes_is_the_norm_of_the_product(one):
    mixer, draw = one.vlm.llm.backbone.layers[0].mixer, torch.Generator().manual_seed(0)
    delta, conv, b = (torch.randn(5, size, generator=draw) for size in (6, 6, 4))
    whole = (delta * conv)[:, :, None] * b[:, None, :]
    torch.testing.assert_close(written(mixer, delta, conv, b).float(), whole.flatten(1).norm(dim=1))


def test_a_block_without_a_mixer_is_named_with_those_that_have_one(tokenizer):
    hybrid = tiny_model("tiny-matvlm", tokenizer).vlm.llm
    with pytest.raises(SiteError, match=r"mixer \(0, 2\), got 1"):
        mixer_at(hybrid, 1)
    with pytest.raises(SiteError, match="this model has none"):
        mixer_at(tiny_model("tiny-mobilevlm-v2", tokenizer).vlm.llm, 0)


def test_what_is_not_there_is_refused(llm, embeddings):
    for position, draws in ((LENGTH, 1), (-1, 1), (0, 0)):
        with pytest.raises(InputError, match="position"):
            influence(llm, embeddings, position, draws=draws)
