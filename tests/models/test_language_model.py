import math
from dataclasses import replace

import pytest
import torch

from emma_viz.errors import CheckpointError
from emma_viz.models import PRESETS, GatedRMSNorm, MambaConfig, MambaLM, RMSNorm


@pytest.fixture
def lm(vlm):
    return vlm.llm


def same_states(one, other, *, tolerance=1e-5):
    return all(
        torch.allclose(a.conv, b.conv, atol=tolerance) and torch.allclose(a.ssm, b.ssm, atol=tolerance)
        for a, b in zip(one.layers, other.layers, strict=True)
    )


@torch.no_grad()
@pytest.mark.parametrize("cuts", [(9,), (1,), (1, 2, 3), (9, 10), tuple(range(1, 14))])
def test_a_text_in_pieces_equals_the_whole(lm, cuts):
    ids = torch.randint(60, (2, 14))
    whole, cache = lm.new_cache(), lm.new_cache()
    expected = lm(ids, cache=whole)
    pieces = [lm(piece, cache=cache) for piece in ids.tensor_split(cuts, dim=1)]
    assert torch.allclose(torch.cat(pieces, dim=1), expected, atol=1e-4)
    assert same_states(cache, whole)
    assert cache.offset.tolist() == [14, 14]


@torch.no_grad()
def test_a_cache_does_not_change_the_pass_that_fills_it(lm):
    ids = torch.randint(60, (2, 6))
    assert torch.equal(lm(ids, cache=lm.new_cache()), lm(ids))


@torch.no_grad()
@pytest.mark.parametrize("pad", [0, 59])
def test_states_of_a_padded_batch_are_those_at_each_end(lm, pad):
    ids, lengths = torch.randint(60, (4, 9)), torch.tensor([9, 5, 1, 2])
    padded = ids.masked_fill(torch.arange(9) >= lengths[:, None], pad)
    cache = lm.new_cache()
    lm(padded, cache=cache, lengths=lengths)
    assert cache.offset.tolist() == lengths.tolist()
    for sample, length in enumerate(lengths.tolist()):
        alone = lm.new_cache()
        lm(ids[sample : sample + 1, :length], cache=alone)
        assert same_states(cache.select(torch.tensor([sample])), alone)


@torch.no_grad()
def test_a_padded_piece_continues_from_a_cache(lm):
    first, second, lengths = torch.randint(60, (2, 3)), torch.randint(60, (2, 5)), torch.tensor([2, 5])
    cache = lm.new_cache()
    lm(first, cache=cache)
    lm(second, cache=cache, lengths=lengths)
    alone = lm.new_cache()
    lm(torch.cat([first, second[:, :2]], dim=1)[:1], cache=alone)
    assert same_states(cache.select(torch.tensor([0])), alone)
    assert cache.offset.tolist() == [5, 8]


@torch.no_grad()
def test_the_model_is_causal(lm):
    ids = torch.randint(60, (1, 8))
    changed = ids.clone()
    changed[0, 5] = (ids[0, 5] + 1) % 60
    before, after = lm(ids), lm(changed)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


@torch.no_grad()
def test_a_copied_cache_goes_its_own_way(lm):
    cache = lm.new_cache()
    lm(torch.randint(60, (1, 4)), cache=cache)
    twin, before = cache.copy(), cache.layers[0].ssm.clone()
    lm(torch.tensor([[3]]), cache=twin)
    assert torch.equal(cache.layers[0].ssm, before)
    assert cache.offset.tolist() == [4]
    assert twin.offset.tolist() == [5]


@torch.no_grad()
def test_a_cache_is_as_large_after_a_long_text(lm):
    short, long = lm.new_cache(), lm.new_cache()
    lm(torch.randint(60, (1, 1)), cache=short)
    lm(torch.randint(60, (1, 40)), cache=long)
    assert short.nbytes == long.nbytes > 0


def test_gradient_checkpointing_gives_the_same_gradients(lm):
    ids = torch.randint(60, (2, 7))

    def gradients(recompute):
        lm.zero_grad()
        lm.gradient_checkpointing = recompute
        lm(ids).float().logsumexp(-1).sum().backward()
        return {name: parameter.grad.clone() for name, parameter in lm.named_parameters()}

    plain, recomputed = gradients(False), gradients(True)
    assert all(gradient.abs().sum() > 0 for gradient in plain.values())
    for name, gradient in plain.items():
        assert torch.allclose(recomputed[name], gradient, rtol=1e-5, atol=1e-7), name


def test_gradient_checkpointing_keeps_less(lm):
    saved = []

    def bytes_saved(recompute):
        saved.clear()
        lm.gradient_checkpointing = recompute
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.nbytes) or t, lambda t: t):
            lm(torch.randint(60, (2, 32)))
        return sum(saved)

    assert bytes_saved(True) < bytes_saved(False) / 2


@torch.no_grad()
def test_the_residual_stream_is_fp32_in_a_bf16_model(lm):
    lm = lm.to(torch.bfloat16)
    seen = {}
    block = lm.backbone.layers[1]
    for site in ("resid_pre", "mixer_in", "mixer_out", "resid_post"):
        point = getattr(block, f"hook_{site}")
        point.register_forward_hook(lambda module, args, value, site=site: seen.update({site: value.dtype}))
    logits = lm(torch.randint(60, (1, 5)))
    assert seen["resid_pre"] == seen["resid_post"] == torch.float32
    assert seen["mixer_in"] == seen["mixer_out"] == logits.dtype == torch.bfloat16


@torch.no_grad()
def test_a_bf16_model_is_near_the_fp32_one(lm):
    ids = torch.randint(60, (1, 20))
    exact = lm(ids)
    rough = lm.to(torch.bfloat16)(ids).float()
    assert (rough - exact).norm() / exact.norm() < 0.05


@pytest.mark.parametrize("ssm", ["mamba1", "mamba2"])
def test_the_official_start(ssm):
    config = MambaConfig(d_model=256, n_layer=4, vocab_size=500, ssm=ssm, headdim=8, d_state=16)
    lm = MambaLM(config)
    mixer = lm.backbone.layers[2].mixer
    bias = mixer.dt_proj.bias if ssm == "mamba1" else mixer.dt_bias
    steps = torch.nn.functional.softplus(bias)
    assert 1e-3 * 0.99 < steps.min() < 2e-3
    assert 5e-2 < steps.max() < 1e-1 * 1.01
    assert abs(steps.log().mean() - math.log(1e-2)) < 0.4, "step sizes are log-uniform"
    assert torch.equal(mixer.D, torch.ones_like(mixer.D))
    rates = mixer.A_log.exp()
    if ssm == "mamba1":
        assert torch.allclose(rates, torch.arange(1.0, 17.0).expand(512, 16))
        assert mixer.dt_proj.weight.abs().max() <= config.rank**-0.5
    else:
        assert rates.min() >= 1
        assert 14 < rates.max() <= 16
    assert abs(lm.backbone.embedding.weight.std() - 0.02) < 1e-3
    bound = 1 / math.sqrt(config.d_inner) / math.sqrt(config.n_layer)
    assert 0.98 * bound < mixer.out_proj.weight.abs().max() <= bound * 1.001


def test_head_and_embedding_stay_tied_after_assignment(lm):
    state = {key: value.clone() for key, value in lm.state_dict().items()}
    with torch.device("meta"):
        empty = MambaLM(lm.config)
    empty.load_state_dict(state, assign=True)
    assert empty.lm_head.weight is empty.backbone.embedding.weight
    ids = torch.randint(60, (1, 5))
    assert torch.equal(empty(ids), lm(ids))


@pytest.mark.parametrize("kept", ["lm_head.weight", "backbone.embedding.weight"])
def test_one_of_head_and_embedding_is_enough(lm, kept):
    state = {key: value.clone() for key, value in lm.state_dict().items()}
    (dropped,) = {"lm_head.weight", "backbone.embedding.weight"} - {kept}
    del state[dropped]
    with torch.device("meta"):
        empty = MambaLM(lm.config)
    empty.load_state_dict(state, assign=True, strict=False)
    assert empty.lm_head.weight is empty.backbone.embedding.weight
    assert torch.equal(empty.lm_head.weight, lm.lm_head.weight)


def test_an_untied_checkpoint_is_refused(lm):
    state = {key: value.clone() for key, value in lm.state_dict().items()}
    state["lm_head.weight"] += 1
    with torch.device("meta"):
        empty = MambaLM(lm.config)
    with pytest.raises(CheckpointError, match=r"lm_head\.weight"):
        empty.load_state_dict(state, assign=True)


def test_rms_norm_by_hand():
    x, norm = torch.tensor([[3.0, -4.0]]), RMSNorm(2, eps=0.0)
    norm.weight.data = torch.tensor([1.0, 2.0])
    rms = math.sqrt(12.5)
    assert torch.allclose(norm(x), torch.tensor([[3 / rms, -8 / rms]]))


def test_gated_norm_gates_first_and_norms_each_group_alone():
    x, gate = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    norm = GatedRMSNorm(8, groups=2, eps=1e-5)
    gated = (x * torch.nn.functional.silu(gate)).reshape(2, 3, 2, 4)
    expected = gated / (gated.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    assert torch.allclose(norm(x, gate), expected.reshape(2, 3, 8), atol=1e-6)


@torch.no_grad()
def test_a_backend_is_passed_down():
    config = replace(PRESETS["tiny-cobra"]().llm, n_layer=1)
    ids = torch.randint(60, (1, 5))
    reference = MambaLM(config, backend="reference")
    assert reference.backbone.layers[0].mixer.backend == "reference"
    other = MambaLM(config, backend="torch")
    other.load_state_dict(reference.state_dict())
    assert torch.allclose(other(ids), reference(ids), atol=1e-5)
