"""Encoders against a plain use of the transformers classes, and position tables against plain PyTorch."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from transformers import Dinov2WithRegistersModel, SiglipVisionModel

from emma_viz.errors import InputError
from emma_viz.models import (
    PRESETS,
    VISION_BACKBONES,
    PocketEncoder,
    VisionConfig,
    VisionEncoder,
    resample_positions,
)


@pytest.fixture
def encoder():
    """The tiny encoder, with every parameter random (transformers starts many at 0 or 1)."""
    encoder = VisionEncoder(VISION_BACKBONES["tiny-dinosiglip-60px"]())
    for parameter in encoder.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return encoder


@torch.no_grad()
def test_features_are_the_second_to_last_hidden_states(encoder, pixels):
    features = encoder(pixels)
    ours = {name: tower.model for name, tower in encoder.towers.items()}
    dino = Dinov2WithRegistersModel(ours["dinov2"].config).eval()
    siglip = SiglipVisionModel(ours["siglip"].config).eval()
    dino.load_state_dict(ours["dinov2"].state_dict())
    siglip.load_state_dict(ours["siglip"].state_dict())
    from_dino = dino(pixels[0], output_hidden_states=True).hidden_states
    from_siglip = siglip(pixels[1], output_hidden_states=True).hidden_states
    expected = torch.cat([from_dino[-2][:, 1 + 2 :], from_siglip[-2]], dim=-1)
    assert features.shape == (3, 16, 24 + 16)
    assert torch.allclose(features, expected, atol=1e-5)
    last = torch.cat([from_dino[-1][:, 1 + 2 :], from_siglip[-1]], dim=-1)
    assert not torch.allclose(features, last, atol=1e-2)


def test_the_last_pixels_are_seen_by_no_patch(encoder, pixels):
    changed = [tensor.clone() for tensor in pixels]
    for tensor in changed:
        tensor[..., 56:, :] += 3
        tensor[..., :, 56:] -= 3
    assert torch.equal(encoder(changed), encoder(pixels))
    changed[0][..., 55, 55] += 3
    assert not torch.equal(encoder(changed), encoder(pixels))


def test_encoders_are_frozen_and_stay_in_evaluation_mode(encoder, pixels):
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder(tuple(tensor.requires_grad_() for tensor in pixels)).requires_grad


def test_no_buffer_is_left_on_the_meta_device():
    with torch.device("meta"):
        for name in ("dinosiglip-vit-so-384px", "tiny-dinosiglip-60px", "siglip-vit-so400m-384px"):
            encoder = VisionEncoder(VISION_BACKBONES[name]())
            assert list(encoder.buffers()) == []


def test_weights_assigned_to_a_meta_encoder_make_it_work(encoder, pixels):
    with torch.device("meta"):
        empty = VisionEncoder(encoder.config)
    empty.load_state_dict(encoder.state_dict(), assign=True)
    assert torch.equal(empty(pixels), encoder(pixels))


def test_both_towers_use_exact_gelu(encoder):
    for tower in encoder.towers.values():
        assert tower.model.config.hidden_act == "gelu"


def test_a_wrong_size_or_number_of_images_is_refused(encoder, pixels):
    with pytest.raises(InputError, match="60×60"):
        encoder(tuple(tensor[..., :56, :56] for tensor in pixels))
    with pytest.raises(InputError, match="dinov2, siglip"):
        encoder(pixels[:1])


def test_position_tables_are_resampled_bicubic_with_antialias():
    table = torch.randn(1 + 37 * 37, 6)
    resampled = resample_positions(table, (37, 37), (27, 27), prefix=1)
    plane = table[1:].T.reshape(1, 6, 37, 37)
    expected = functional.interpolate(plane, (27, 27), mode="bicubic", antialias=True)
    assert resampled.shape == (1 + 27 * 27, 6)
    assert torch.equal(resampled[0], table[0])
    assert torch.allclose(resampled[1:], expected.reshape(6, -1).T, atol=1e-6)
    plain = functional.interpolate(plane, (27, 27), mode="bicubic").reshape(6, -1).T
    assert not torch.allclose(resampled[1:], plain, atol=1e-2), "antialias matters when shrinking"


def test_resampling_in_bf16_computes_in_fp32():
    table = torch.randn(81, 4).to(torch.bfloat16)
    resampled = resample_positions(table, (9, 9), (5, 5))
    assert resampled.dtype == torch.bfloat16
    assert torch.equal(resampled, resample_positions(table.float(), (9, 9), (5, 5)).to(torch.bfloat16))


def test_a_table_of_the_right_grid_is_left_alone():
    table = torch.randn(16, 4)
    assert resample_positions(table, (4, 4), (4, 4)) is table


def test_a_table_of_another_length_is_refused():
    with pytest.raises(InputError, match="1 \\+ 4×4 = 17"):
        resample_positions(torch.randn(16, 4), (4, 4), (3, 3), prefix=1)


@pytest.fixture
def pocket():
    return PRESETS["cobra-pocket"]().vision.towers[0]


@torch.no_grad()
def test_the_pocket_encoder_gives_one_normed_token_a_patch(pocket):
    encoder = PocketEncoder(pocket).eval()
    tokens = encoder(torch.randn(2, 3, 128, 128))
    assert tokens.shape == (2, 16 * 16, pocket.width)
    assert torch.allclose(tokens.mean(-1), torch.zeros(2, 256), atol=1e-5)
    assert torch.allclose(tokens.var(-1, unbiased=False), torch.ones(2, 256), atol=1e-2)


@torch.no_grad()
def test_the_pocket_encoders_tokens_are_row_major(pocket):
    encoder = PocketEncoder(pocket).eval()
    black = torch.zeros(1, 3, 128, 128)
    dot = black.clone()
    dot[..., 3 * 8 + 4, 12 * 8 + 4] = 50.0
    change = (encoder(dot) - encoder(black)).norm(dim=-1)[0]
    row, column = divmod(int(change.argmax()), 16)
    assert abs(row - 3) <= 1
    assert abs(column - 12) <= 1


def test_the_pocket_encoder_inside_a_model_keeps_its_statistics(pocket):
    encoder = VisionEncoder(VisionConfig(backbone_id="pocket", towers=(pocket,))).train()
    before = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    encoder((torch.randn(2, 3, 128, 128),))
    assert before
    assert all(torch.equal(buffer, before[name]) for name, buffer in encoder.named_buffers())


def test_the_pocket_encoder_refuses_other_patches(pocket):
    with pytest.raises(InputError, match="patch = 8"):
        PocketEncoder(replace(pocket, patch=16))
