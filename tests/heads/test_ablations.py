"""The paper's ablations of fusion and decoder: each changes what its name says, and nothing else."""

import json

import pytest
import torch
from jaxtyping import TypeCheckError

from emma_viz.errors import InputError, LensError
from emma_viz.heads.attention import CrossAttention, linear_attention
from emma_viz.heads.config import DecoderConfig, FusionConfig, MixerSize, PaperConfig, ReleasedConfig
from emma_viz.heads.head import PaperHead, build_head, head_from_json, head_to_json
from emma_viz.heads.losses import feature_loss, feature_target, paper_loss

WIDTH, PATCH, TOKENS, TOWERS = 16, 2, 9, (6, 5)
MIXER = MixerSize(ssm="mamba1", d_state=4)


def head(*, seed: int = 0, n_blocks: int = 4, decoder: dict | None = None, **fusion) -> PaperHead:
    torch.manual_seed(seed)
    config = PaperConfig(
        fusion=FusionConfig(width=WIDTH, n_heads=2, n_blocks=n_blocks, mixer=MIXER, **fusion),
        decoder=DecoderConfig(width=WIDTH, patch=PATCH, n_layers=1, mixer=MIXER, **decoder or {}),
    )
    return PaperHead(config, backend="torch")


@pytest.fixture
def taps() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, TOKENS, WIDTH, generator=generator) for _ in range(4)]


@pytest.fixture
def patches() -> torch.Tensor:
    return torch.rand(2, TOKENS, PATCH, PATCH, 3, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(2, TOKENS, sum(TOWERS), generator=torch.Generator().manual_seed(3))


def assert_all_trained(module: PaperHead) -> None:
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_linear_attention_against_explicit_weights():
    """out_i = Σ_j w_ij v_j with w_ij = φ(q_i)·φ(k_j) / Σ_j φ(q_i)·φ(k_j) and φ(x) = elu(x) + 1."""
    q, k, v = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 7, 5), torch.randn(2, 3, 7, 5)
    phi_q, phi_k = torch.nn.functional.elu(q) + 1, torch.nn.functional.elu(k) + 1
    weights = phi_q @ phi_k.transpose(-1, -2)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(linear_attention(q, k, v), weights @ v)


def test_linear_attention_stays_finite_where_all_weights_are_tiny():
    q = torch.full((1, 1, 2, 3), -30.0, requires_grad=True)
    k, v = torch.full((1, 1, 4, 3), -20.0), torch.arange(12.0).reshape(1, 1, 4, 3)
    out = linear_attention(q, k, v)
    torch.testing.assert_close(out, v.mean(dim=2, keepdim=True).expand(1, 1, 2, 3))
    out.sum().backward()
    assert q.grad.isfinite().all()


def test_linear_attention_sums_in_fp32():
    q, k, v = (torch.randn(1, 1, 700, 4, dtype=torch.bfloat16) for _ in range(3))
    out = linear_attention(q, k, v)
    assert out.dtype == torch.bfloat16
    exact = linear_attention(q.double(), k.double(), v.double())
    torch.testing.assert_close(out.double(), exact, rtol=1e-2, atol=1e-2)


def test_linear_attention_sums_in_fp32_under_autocast():
    q, k, v = (torch.randn(1, 1, 700, 4, requires_grad=True) for _ in range(3))
    exact = linear_attention(q, k, v)
    with torch.autocast("cpu", torch.bfloat16):
        out = linear_attention(q, k, v)
    assert torch.equal(out, exact)
    gradients = [torch.autograd.grad(each.square().sum(), (q, k, v)) for each in (out, exact)]
    for mine, theirs in zip(*gradients, strict=True):
        assert torch.equal(mine, theirs)


def test_linear_attention_has_no_autocast_to_leave_on_the_meta_device():
    q, k, v = (torch.empty(1, 1, 7, 4, device="meta") for _ in range(3))
    assert linear_attention(q, k, v).shape == (1, 1, 7, 4)


def test_la_has_the_same_weights_and_another_result(taps):
    softmax, linear = head(), head(attention="linear")
    assert {name: tuple(each.shape) for name, each in softmax.state_dict().items()} == {
        name: tuple(each.shape) for name, each in linear.state_dict().items()
    }
    for (name, one), other in zip(softmax.state_dict().items(), linear.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert linear(taps).shape == softmax(taps).shape
    assert not torch.allclose(linear(taps), softmax(taps), atol=1e-4)
    torch.testing.assert_close(linear.decoder(taps[0]), softmax.decoder(taps[0]))
    for block in linear.fusion.blocks:
        block.attention.kind = "softmax"
    torch.testing.assert_close(linear(taps), softmax(taps))


def test_la_trains_every_parameter(taps, patches):
    linear = head(attention="linear")
    linear.loss(taps, patches=patches).backward()
    assert_all_trained(linear)


def test_la_takes_no_mask():
    attention = CrossAttention(4, 2, "linear")
    with pytest.raises(InputError, match="takes no mask"):
        attention(torch.zeros(1, 3, 4), torch.zeros(1, 3, 4), torch.ones(3, 3, dtype=torch.bool))


def test_without_mff_the_decoder_reads_the_final_layer_alone(taps, patches):
    alone = head(n_blocks=0)
    torch.testing.assert_close(alone(taps), alone.decoder(taps[-1]))
    others = [torch.randn_like(tap) for tap in taps[:-1]] + taps[-1:]
    torch.testing.assert_close(alone(others), alone(taps))
    assert not torch.allclose(head()(others), head()(taps), atol=1e-4), "with MFF the other taps matter"
    alone.loss(taps, patches=patches).backward()
    assert_all_trained(alone)
    shapes = {name: tuple(each.shape) for name, each in head().decoder.state_dict().items()}
    assert shapes == {name: tuple(each.shape) for name, each in alone.decoder.state_dict().items()}


def avf() -> PaperHead:
    return head(decoder={"target": "features", "feature_widths": TOWERS})


def test_avf_changes_the_last_layer_alone(taps):
    pixels, features = head(), avf()
    assert features(taps).shape == (2, TOKENS, 11)
    ours, theirs = features.state_dict(), pixels.state_dict()
    assert ours.keys() == theirs.keys()
    different = {name for name in ours if ours[name].shape != theirs[name].shape}
    assert different == {"decoder.out.weight", "decoder.out.bias"}
    for name in ours.keys() - different:
        assert torch.equal(ours[name], theirs[name]), name


def test_avf_normalises_each_encoder_of_each_token(features):
    target = feature_target(features, widths=TOWERS)
    for start, stop in ((0, 6), (6, 11)):
        part = features[..., start:stop]
        expected = (part - part.mean(-1, keepdim=True)) / part.std(-1, unbiased=False, keepdim=True)
        torch.testing.assert_close(target[..., start:stop], expected, rtol=1e-4, atol=1e-4)
    louder = torch.cat([features[..., :6] * 100 + 7, features[..., 6:]], dim=-1)
    torch.testing.assert_close(feature_target(louder, widths=TOWERS), target, rtol=1e-3, atol=1e-3)
    with pytest.raises(InputError, match=r"add up to 7; these features have 11 channels"):
        feature_target(features, widths=(3, 4))


def test_avf_is_the_mean_square_to_that_target(taps, patches, features):
    model = avf()
    expected = (model(taps) - feature_target(features, widths=TOWERS)).square().mean()
    torch.testing.assert_close(model.loss(taps, features=features, patches=patches), expected)
    assert feature_loss(feature_target(features, widths=TOWERS), features, widths=TOWERS) == 0
    model.loss(taps, features=features).backward()
    assert_all_trained(model)
    with pytest.raises(InputError, match="pass features="):
        model.loss(taps, patches=patches)


def test_pixels_are_the_default_target(taps, patches, features):
    model = head()
    torch.testing.assert_close(
        model.loss(taps, patches=patches, features=features), paper_loss(model(taps), patches)
    )
    with pytest.raises(InputError, match="pass patches="):
        model.loss(taps, features=features)


def test_features_are_no_picture(taps):
    with pytest.raises(LensError, match="cannot show pixels"):
        avf().pictures(taps)


def test_switches_that_contradict_each_other_are_refused():
    with pytest.raises(InputError, match="needs feature_widths"):
        DecoderConfig(target="features")
    with pytest.raises(InputError, match="takes none"):
        DecoderConfig(feature_widths=(3,))
    # Under test, the type checker is asked before the config itself is; either names the value.
    with pytest.raises((InputError, TypeCheckError), match="sounds"):
        DecoderConfig(target="sounds")
    with pytest.raises((InputError, TypeCheckError), match="cosine"):
        FusionConfig(attention="cosine")


def test_switches_survive_json_and_older_files_mean_none():
    for config in (avf().config, head(attention="linear").config):
        back = head_from_json(json.loads(json.dumps(head_to_json(config))))
        assert back == config
        assert isinstance(build_head(back, backend="torch"), PaperHead)
    older = head_to_json(head().config)
    del older["sizes"]["fusion"]["attention"]
    del older["sizes"]["decoder"]["target"], older["sizes"]["decoder"]["feature_widths"]
    assert head_from_json(older) == head().config


def test_at_full_size_avf_predicts_both_encoders():
    with torch.device("meta"):
        model = PaperHead(
            PaperConfig(decoder=DecoderConfig(target="features", feature_widths=(1024, 1152))),
            backend="torch",
        )
    assert model.decoder.out.weight.shape == (2176, 2560)
    assert ReleasedConfig().n_taps == model.config.n_taps
