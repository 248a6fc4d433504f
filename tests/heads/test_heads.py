"""Fusion and decoders: sizes of Table 7, and what feeds what."""

import pytest
import torch

from emma_viz.errors import InputError, LensError
from emma_viz.heads.attention import CrossAttention
from emma_viz.heads.config import (
    DecoderConfig,
    FusionConfig,
    MixerSize,
    PaperConfig,
    ReleasedConfig,
    head_width,
    paper_config,
    released_config,
)
from emma_viz.heads.decoder import PaperDecoder
from emma_viz.heads.fusion import MFF, FusionBlock
from emma_viz.heads.head import PaperHead, ReleasedHead, build_head, head_from_json, head_to_json
from emma_viz.heads.mixers import parameter_count
from emma_viz.heads.released import ReleasedBlock, ReleasedDecoder, ReleasedFusion

MIXER = MixerSize(ssm="mamba2", d_state=4, headdim=8)


def tiny_fusion(**changes) -> FusionConfig:
    return FusionConfig(**{"width": 16, "n_heads": 2, "mixer": MIXER} | changes)


def tiny_released(**changes) -> ReleasedConfig:
    sizes = {
        "width": 16,
        "n_taps": 4,
        "grid": (3, 6),
        "n_heads": 2,
        "mixer": MIXER,
        "target_width": 12,
        "patch": 2,
    }
    return ReleasedConfig(**sizes | changes)


def taps(n: int = 4, tokens: int = 18, width: int = 16) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, tokens, width, generator=generator) for _ in range(n)]


@pytest.fixture
def paper_at_full_size() -> PaperHead:
    with torch.device("meta"):
        return PaperHead(PaperConfig(), backend="torch")


@pytest.fixture
def released_at_full_size() -> ReleasedHead:
    with torch.device("meta"):
        return ReleasedHead(ReleasedConfig(), backend="torch")


def test_the_paper_form_lands_on_table_7(paper_at_full_size):
    fusion = paper_at_full_size.fusion
    attention = sum(parameter_count(block.attention) for block in fusion.blocks)
    mamba = sum(parameter_count(block.mixer) for block in fusion.blocks)
    assert attention == 4 * (4 * 2560**2 + 4 * 2560) == 104_898_560
    assert mamba == 160_856_000
    assert round((attention + mamba) / 1e6) == 266
    assert parameter_count(fusion) - attention - mamba == 4 * 5 * 2560, "our norms"
    assert round(parameter_count(fusion) / 1e6) == 266


@pytest.mark.parametrize(("patch", "millions"), [(14, 173.0), (16, 173.5)])
def test_the_pixel_decoder_lands_on_table_7(patch, millions):
    with torch.device("meta"):
        decoder = PaperDecoder(DecoderConfig(patch=patch), backend="torch")
    assert parameter_count(decoder.layers[0].mixer) == 41_241_600
    assert decoder.out.out_features == 3 * patch**2
    assert round(parameter_count(decoder) / 1e6, 1) == millions


def test_eq_7_to_the_letter_has_three_blocks():
    with torch.device("meta"):
        fusion = MFF(FusionConfig(n_blocks=3), backend="torch")
    assert round(parameter_count(fusion) / 1e6) == 199


def test_the_released_form_has_the_sizes_of_the_code(released_at_full_size):
    head = released_at_full_size
    assert parameter_count(head.fusion.enc2dec) == 10240 * 10240 + 10240
    assert round(parameter_count(head.fusion.enc2dec) / 1e6, 1) == 104.9
    assert [tuple(norm.weight.shape) for norm in head.fusion.norms] == [(2560,)] * 4
    assert sum(parameter_count(block.attention) for block in head.decoder.blocks) == 104_898_560
    assert sum(parameter_count(block.mixer) for block in head.decoder.blocks) == 160_856_000
    assert head.decoder.blocks[0].attention.n_heads == 40
    assert head.decoder.out.weight.shape == (1152, 2560)
    assert head.decoder.query.shape == (2560,)
    assert head.decoder.positions.shape == (729, 2560)
    assert not any(name.endswith("positions") for name, _ in head.named_parameters())


def test_the_query_begins_small_and_the_positions_zero():
    torch.manual_seed(0)
    decoder = ReleasedDecoder(
        released_config(width=256, patch=2, grid=(3, 3), target_width=8), backend="torch"
    )
    assert decoder.query.std().item() == pytest.approx(0.02, rel=0.2)
    assert (decoder.positions == 0).all()


def test_cross_attention_against_explicit_loops():
    torch.manual_seed(0)
    attention = CrossAttention(6, 2)
    queries, context = torch.randn(1, 3, 6), torch.randn(1, 4, 6)
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 1], [1, 1, 1, 1]], dtype=torch.bool)
    q, (k, v) = attention.q(queries)[0], attention.kv(context)[0].split(6, dim=-1)
    mixed = torch.zeros(3, 6)
    for head in (slice(0, 3), slice(3, 6)):
        for i in range(3):
            seen = [j for j in range(4) if mask[i, j]]
            weights = torch.softmax(torch.stack([q[i, head] @ k[j, head] / 3**0.5 for j in seen]), dim=0)
            mixed[i, head] = sum(weight * v[j, head] for weight, j in zip(weights, seen, strict=True))
    torch.testing.assert_close(attention(queries, context, mask)[0], attention.proj(mixed))


@pytest.mark.parametrize("norms", [True, False])
def test_a_fusion_block_is_equation_6(norms):
    block = FusionBlock(tiny_fusion(norms=norms), backend="torch")
    x, y = taps(2)
    h = x + block.attention(block.norm_query(x), block.norm_context(y))
    torch.testing.assert_close(block(x, y), h + block.mixer(block.norm_mixer(h)))
    if not norms:
        torch.testing.assert_close(block.norm_query(x), x)
        torch.testing.assert_close(block.norm_mixer(x), x)


def test_four_blocks_fuse_the_earliest_tap_with_itself_first():
    fusion = MFF(tiny_fusion(n_blocks=4), backend="torch")
    a, b, c, d = taps()
    first, second, third, fourth = fusion.blocks
    expected = [first(a, a)]
    for block, tap in ((second, b), (third, c), (fourth, d)):
        expected.append(block(expected[-1], tap))
    assert fusion.depths == (0, 1, 2, 3)
    for one, other in zip(fusion.prefixes([a, b, c, d]), expected, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(fusion([a, b, c, d]), expected[-1])


def test_three_blocks_are_the_chain_of_equation_7():
    fusion = MFF(tiny_fusion(n_blocks=3), backend="torch")
    a, b, c, d = taps()
    first, second, third = fusion.blocks
    torch.testing.assert_close(fusion([a, b, c, d]), third(second(first(a, b), c), d))
    assert fusion.depths == (1, 2, 3)
    torch.testing.assert_close(fusion.prefixes([a, b])[-1], first(a, b))
    with pytest.raises(InputError, match="2 to 4 taps"):
        fusion.prefixes([a])


def test_without_blocks_the_final_layer_alone_is_decoded():
    fusion = MFF(tiny_fusion(n_blocks=0), backend="torch")
    given = taps()
    assert fusion(given) is given[-1]
    assert fusion.depths == (3,)
    assert parameter_count(fusion) == 0


def test_the_number_of_taps_is_checked():
    for n_blocks in (0, 3, 4):
        with pytest.raises(InputError, match=r"takes 4 taps.*3 came"):
            MFF(tiny_fusion(n_blocks=n_blocks), backend="torch")(taps(3))
    with pytest.raises(InputError, match="takes 4 taps"):
        ReleasedFusion(tiny_released())(taps(3))
    with pytest.raises(InputError, match="n_blocks=2"):
        tiny_fusion(n_blocks=2)


def test_the_paper_decoder_gives_one_patch_per_token_and_looks_back_only():
    decoder = PaperDecoder(
        DecoderConfig(width=16, patch=2, n_layers=2, mixer=MixerSize(ssm="mamba1", d_state=4)),
        backend="torch",
    )
    x = taps(1)[0]
    out = decoder(x)
    assert out.shape == (2, 18, 12)
    changed = x.clone()
    changed[:, 10:] += torch.randn(16)
    torch.testing.assert_close(decoder(changed)[:, :10], out[:, :10])
    assert not torch.allclose(decoder(changed)[:, 10:], out[:, 10:])


def test_a_released_block_is_two_residual_steps():
    block = ReleasedBlock(tiny_released(), backend="torch")
    q, kv = taps(2)
    mask = torch.ones(18, 18, dtype=torch.bool).tril()
    h = q + block.attention(block.norm_query(q), block.norm_context(kv), mask)
    torch.testing.assert_close(block(q, kv, mask), h + block.mixer(block.norm_mixer(block.norm(h))))


def test_keys_are_not_regrouped_and_later_rows_are_hidden():
    """Of a 3×6 grid, the queries of the first segment (six in regrouped order) see the six keys of image row
    0."""
    torch.manual_seed(0)
    decoder = ReleasedDecoder(tiny_released(), backend="torch")
    slices = torch.randn(4, 1, 18, 16)
    out = decoder(slices)
    assert out.shape == (1, 18, 12)
    changed = slices.clone()
    other = torch.randn(16)  # not one number for all channels: a layer norm would remove that
    changed[:, :, 6:] += other  # image rows 1 and 2
    again = decoder(changed)
    torch.testing.assert_close(again[:, :6], out[:, :6])
    assert not torch.allclose(again[:, 6:], out[:, 6:])
    changed = slices.clone()
    changed[:, :, 3] += other  # row 0, column 3: in the second group, yet in the first segment of keys
    assert not torch.allclose(decoder(changed)[:, :6], out[:, :6])


def test_each_block_reads_its_own_slice():
    fusion, config = ReleasedFusion(tiny_released()), tiny_released()
    given = taps()
    together = torch.cat([norm(tap) for norm, tap in zip(fusion.norms, given, strict=True)], dim=-1)
    linear = fusion.enc2dec(together)
    slices = fusion(given)
    for n in range(config.n_taps):
        torch.testing.assert_close(slices[n], linear[..., n :: config.n_taps])
    torch.manual_seed(0)
    decoder = ReleasedDecoder(config, backend="torch")
    decoder.positions.normal_()
    seen = []
    for block in decoder.blocks:
        block.register_forward_hook(lambda _, inputs, __: seen.append(inputs[:2]))
    decoder(slices)
    for n, (queries, context) in enumerate(seen):
        assert context is slices[n] or torch.equal(context, slices[n])
        if n == 0:  # queries are regrouped: place 3 holds row 1, column 0 of the 3×6 grid
            torch.testing.assert_close(queries[0, 3], decoder.query + decoder.positions[6])


def test_tokens_that_do_not_fill_the_grid_are_refused():
    with pytest.raises(InputError, match="3×6 = 18 image tokens; 17 came"):
        ReleasedDecoder(tiny_released(), backend="torch")(torch.zeros(4, 1, 17, 16))


def test_sizes_that_contradict_each_other_are_refused():
    with pytest.raises(InputError, match=r"fusion gives 16.*reads 32"):
        PaperConfig(fusion=tiny_fusion(), decoder=DecoderConfig(width=32))
    with pytest.raises(InputError, match="n_heads=3"):
        tiny_fusion(n_heads=3)
    with pytest.raises(InputError, match=r"multiples of 3; this grid is 16×16"):
        tiny_released(grid=(16, 16))


@pytest.mark.parametrize(("width", "head"), [(2560, 64), (192, 64), (96, 48), (160, 32), (36, 4), (7, 1)])
def test_heads_at_any_width(width, head):
    assert head_width(width) == head
    config = paper_config(width=width, patch=8)
    assert config.fusion.n_heads * head == width


def test_full_size_is_what_the_sizing_functions_give():
    assert paper_config(width=2560, patch=14) == PaperConfig()
    assert released_config(width=2560, patch=14, grid=(27, 27), target_width=1152) == ReleasedConfig()


@pytest.mark.parametrize(
    "config",
    [
        paper_config(width=16, patch=2, n_blocks=3),
        PaperConfig(fusion=tiny_fusion(n_blocks=0, norms=False), decoder=DecoderConfig(width=16)),
        tiny_released(),
    ],
)
def test_sizes_survive_a_trip_through_json(config):
    import json

    assert head_from_json(json.loads(json.dumps(head_to_json(config)))) == config


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"form": "cubist", "sizes": {}},
        {"form": "paper", "sizes": {}},
        {"form": "released", "sizes": {"depth": 3}},
    ],
)
def test_sizes_that_cannot_be_read_are_refused(broken):
    with pytest.raises(LensError, match="sizes of the decoder"):
        head_from_json(broken)


@pytest.mark.parametrize("config", [paper_config(width=16, patch=2), tiny_released()])
def test_every_parameter_of_a_head_is_trained(config):
    head = build_head(config, backend="torch")
    out = head([tap.requires_grad_() for tap in taps()])
    out.square().sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_pictures_are_pixels():
    head = PaperHead(paper_config(width=16, patch=2), backend="torch").eval()
    given = taps()
    with torch.no_grad():
        units, pictures = head(given), head.pictures(given)
    assert pictures.shape == (2, 18, 2, 2, 3)
    torch.testing.assert_close(pictures.flatten(2), units * 0.25 + 0.5)
    with torch.no_grad():
        assert not torch.allclose(head.pictures(given[:2]), pictures), "a prefix is another picture"
    released = ReleasedHead(tiny_released(), backend="torch").eval()
    with torch.no_grad():
        assert released.pictures(given).shape == (2, 18, 2, 2, 3)
