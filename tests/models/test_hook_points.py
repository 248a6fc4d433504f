"""Every hook point fires with the documented value, and looking changes nothing."""

import pytest
import torch
from torch.nn import functional

from emma_viz.models import HookPoint

LENGTH = 16 + 5
BLOCK = ("resid_pre", "mixer_in", "mixer_out", "resid_post")
MIXER = ("x", "z", "conv_pre", "conv", "delta", "B", "C", "scan", "y")
OBSERVED = ("resid_post", "conv_pre", "scan")


@pytest.fixture
def run(vlm, pixels):
    ids = torch.randint(60, (3, 5))
    return torch.no_grad()(lambda: vlm(pixels, ids, logits="all").logits)


def points(vlm):
    return {name: module for name, module in vlm.named_modules() if isinstance(module, HookPoint)}


def watch(vlm):
    seen = {}
    for name, point in points(vlm).items():
        point.register_forward_hook(lambda module, args, value, name=name: seen.update({name: value}))
    return seen


def test_the_points_of_a_model(vlm):
    blocks = range(vlm.config.llm.n_layer)
    expected = {"llm.backbone.hook_embed", "llm.backbone.hook_norm_f"}
    expected |= {f"llm.backbone.layers.{i}.hook_{site}" for i in blocks for site in BLOCK}
    expected |= {f"llm.backbone.layers.{i}.mixer.hook_{site}" for i in blocks for site in MIXER}
    assert set(points(vlm)) == expected


def test_every_point_fires_with_its_shape_and_changes_no_bit(vlm, run):
    before = run()
    seen = watch(vlm)
    assert torch.equal(run(), before)
    assert set(seen) == set(points(vlm))
    llm = vlm.config.llm
    widths = dict.fromkeys((*BLOCK, "embed", "norm_f"), llm.d_model)
    widths |= {"conv": llm.d_inner, "y": llm.d_inner, "B": llm.d_state, "C": llm.d_state}
    widths |= dict.fromkeys(("z", "scan"), llm.d_inner)
    widths |= dict.fromkeys(("x", "conv_pre"), llm.d_inner if llm.ssm == "mamba1" else llm.conv_width)
    widths["delta"] = llm.d_inner if llm.ssm == "mamba1" else llm.n_heads
    for name, value in seen.items():
        assert value.shape == (3, LENGTH, widths[name.rsplit("hook_", 1)[1]]), name
        assert value.isfinite().all(), name


def test_the_residual_stream_adds_up(vlm, run):
    seen = watch(vlm)
    run()
    block = "llm.backbone.layers.{}.hook_{}".format
    assert torch.equal(seen["llm.backbone.hook_embed"], seen[block(0, "resid_pre")])
    for i in range(vlm.config.llm.n_layer):
        total = seen[block(i, "resid_pre")] + seen[block(i, "mixer_out")]
        assert torch.equal(seen[block(i, "resid_post")], total)
        if i:
            assert torch.equal(seen[block(i, "resid_pre")], seen[block(i - 1, "resid_post")])
    final = vlm.llm.backbone.norm_f(seen[block(vlm.config.llm.n_layer - 1, "resid_post")])
    assert torch.equal(seen["llm.backbone.hook_norm_f"], final)


def test_inner_values_explain_the_mixers_output(vlm, run):
    seen = watch(vlm)
    run()
    mixer, path = vlm.llm.backbone.layers[1].mixer, "llm.backbone.layers.1."
    output = mixer.out_proj(seen[path + "mixer.hook_y"])
    assert torch.allclose(output, seen[path + "hook_mixer_out"], atol=1e-5)
    projected = mixer.in_proj(seen[path + "hook_mixer_in"])
    if vlm.config.llm.ssm == "mamba1":
        rank, states = vlm.config.llm.rank, vlm.config.llm.d_state
        dt, B, C = mixer.x_proj(seen[path + "mixer.hook_conv"]).split([rank, states, states], dim=-1)
        assert torch.allclose(seen[path + "mixer.hook_B"], B, atol=1e-5)
        assert torch.allclose(seen[path + "mixer.hook_C"], C, atol=1e-5)
        expected = functional.softplus(mixer.dt_proj(dt))
    else:
        expected = functional.softplus(projected[..., -vlm.config.llm.n_heads :] + mixer.dt_bias)
    assert torch.allclose(seen[path + "mixer.hook_delta"], expected, atol=1e-5)


def test_what_surrounds_convolution_and_gate_explains_what_is_between(vlm, run):
    seen = watch(vlm)
    run()
    mixer, path = vlm.llm.backbone.layers[1].mixer, "llm.backbone.layers.1.mixer.hook_"
    inner = vlm.config.llm.d_inner
    assert torch.allclose(
        functional.silu(seen[path + "conv_pre"])[..., :inner], seen[path + "conv"], atol=1e-5
    )
    padded = functional.pad(seen[path + "x"].mT, (vlm.config.llm.d_conv - 1, 0))
    by_hand = functional.conv1d(padded, mixer.conv1d.weight, mixer.conv1d.bias, groups=padded.shape[1]).mT
    assert torch.allclose(by_hand, seen[path + "conv_pre"], atol=1e-5)
    gated = seen[path + "scan"] * functional.silu(seen[path + "z"])
    if vlm.config.llm.ssm == "mamba2":
        gated = mixer.norm(seen[path + "scan"], seen[path + "z"])
    assert torch.allclose(gated, seen[path + "y"], atol=1e-5)


def test_a_step_of_zero_passes_the_state_on(vlm, pixels):
    """Step sizes can be replaced: where they are 0, what a token would write never reaches another."""
    mixer = vlm.llm.backbone.layers[1].mixer
    ids, place = torch.randint(60, (3, 5)), 7

    def cut(module, args, delta):
        delta = delta.clone()
        delta[:, place] = 0
        return delta

    def louder(module, args, B):
        B = B.clone()
        B[:, place] *= 100
        return B

    seen = watch(vlm)
    scan = "llm.backbone.layers.1.mixer.hook_scan"
    handles = [mixer.hook_delta.register_forward_hook(cut)]
    with torch.no_grad():
        vlm(pixels, ids)
        first = seen[scan].clone()
        handles.append(mixer.hook_B.register_forward_hook(louder))
        vlm(pixels, ids)
    second = seen[scan].clone()
    for handle in handles:
        handle.remove()
    with torch.no_grad():
        vlm(pixels, ids)
    assert torch.equal(first, second)
    assert not torch.equal(first[:, place + 1 :], seen[scan][:, place + 1 :])


@pytest.mark.parametrize("site", [*BLOCK, *MIXER])
def test_returned_values_intervene_at_pass_through_points_only(vlm, run, site):
    before = run()
    block = vlm.llm.backbone.layers[1]
    point = getattr(block if site in BLOCK else block.mixer, f"hook_{site}")
    handle = point.register_forward_hook(lambda module, args, value: torch.zeros_like(value))
    after = run()
    handle.remove()
    assert torch.equal(after, before) == (site in OBSERVED)
    assert torch.equal(run(), before)


def test_an_observation_without_a_hook_is_not_computed():
    point = HookPoint()
    point.observe(lambda: pytest.fail("nobody looks"))
    point.register_forward_pre_hook(lambda module, args: None)
    with pytest.raises(ZeroDivisionError):
        point.observe(lambda: 1 / 0)


def test_points_fire_at_single_steps_too(vlm, pixels):
    cache = vlm.llm.new_cache()
    with torch.no_grad():
        vlm(pixels, None, cache=cache, logits="none")
        seen = watch(vlm)
        vlm(None, torch.tensor([[1], [2], [3]]), cache=cache)
    assert {name: value.shape[:2] for name, value in seen.items()} == dict.fromkeys(points(vlm), (3, 1))


def test_padding_has_no_step(vlm, pixels):
    seen = watch(vlm)
    with torch.no_grad():
        vlm(pixels, torch.randint(60, (3, 5)), lengths=torch.tensor([5, 2, 3]), cache=vlm.llm.new_cache())
    delta = seen["llm.backbone.layers.0.mixer.hook_delta"]
    assert (delta[1, 16 + 2 :] == 0).all()
    assert (delta[1, : 16 + 2] > 0).all()
