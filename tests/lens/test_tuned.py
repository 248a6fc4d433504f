"""The tuned lens: each layer from its own states, a shared decoder, its file."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from emma_viz.errors import InputError, LensError, LensMismatchError
from emma_viz.heads.config import DecoderConfig, FusionConfig, MixerSize, PaperConfig, paper_config
from emma_viz.heads.losses import paper_loss
from emma_viz.heads.mixers import parameter_count
from emma_viz.lens import find_lens, load_lens, read_info, save_lens
from emma_viz.lens.evaluation import quality_of, with_quality
from emma_viz.lens.protocol import Lens, recording_for
from emma_viz.lens.translators import FullTranslator, LowRankTranslator, build_translator
from emma_viz.lens.tuned import TunedConfig, TunedHead, tuned_config, tuned_lens
from emma_viz.maps.apply import decode

WIDTH, PATCH, LAYERS = 6, 4, (0, 1, 2)
MIXER = MixerSize(ssm="mamba1", d_state=4)


def small(rank: int | None = None, n_layers: int = 3) -> TunedConfig:
    head = PaperConfig(
        fusion=FusionConfig(width=WIDTH, n_taps=1, n_blocks=1, n_heads=2, mixer=MIXER),
        decoder=DecoderConfig(width=WIDTH, patch=PATCH, n_layers=1, mixer=MIXER),
    )
    return TunedConfig(n_layers=n_layers, head=head, rank=rank)


def head(rank: int | None = None, *, started: bool = True) -> TunedHead:
    torch.manual_seed(0)
    made = TunedHead(small(rank), backend="torch")
    if started:
        for parameter in made.translators.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return made


def lens(model, rank: int | None = None, layers: tuple[int, ...] = LAYERS):
    return tuned_lens(
        head(rank), model, site="resid_post", layers=layers, fitted_on="noise", n_fit=3, notes=("budget",)
    )


@pytest.fixture
def states() -> torch.Tensor:
    return torch.randn(3, 2, 9, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def patches() -> torch.Tensor:
    return torch.rand(2, 9, PATCH, PATCH, 3, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("rank", [None, 2])
def test_a_translator_starts_as_the_identity_and_is_affine(rank):
    x = torch.randn(5, WIDTH)
    translator = build_translator(WIDTH, rank)
    torch.testing.assert_close(translator(x), x)
    for parameter in translator.parameters():
        torch.nn.init.normal_(parameter)
    assert not torch.allclose(translator(x), x)
    y, weight = torch.randn(5, WIDTH), 0.3
    mixed = weight * translator(x) + (1 - weight) * translator(y)
    torch.testing.assert_close(translator(weight * x + (1 - weight) * y), mixed, rtol=1e-4, atol=1e-4)


def test_translators_at_full_size():
    with torch.device("meta"):
        full, low = FullTranslator(2560), LowRankTranslator(2560, 64)
    assert parameter_count(full) == 2560**2 + 2560
    assert round(64 * parameter_count(full) / 1e6) == 420
    assert parameter_count(low) == 2 * 2560 * 64 + 2 * 2560
    assert round(64 * parameter_count(low) / 1e6) == 21


def test_the_sizes_at_full_size_are_the_papers():
    config = tuned_config(width=2560, patch=14, n_layers=64, rank=64)
    with torch.device("meta"):
        made = TunedHead(config, backend="torch")
        paper = TunedHead(tuned_config(width=2560, patch=14, n_layers=1), backend="torch").head
    assert len(made.head.fusion.blocks) == 1
    assert round(parameter_count(made.head.decoder) / 1e6) == 173
    assert round(parameter_count(made.head.fusion) / 1e6, 1) == 66.5
    assert parameter_count(made.head) == parameter_count(paper), "the decoder does not grow with the layers"


def test_each_layer_is_decoded_from_its_own_states_alone(states):
    made = head()
    out = made(states)
    assert out.shape == (3, 2, 9, 3 * PATCH**2)
    for row in range(3):
        others = torch.randn_like(states)
        others[row] = states[row]
        torch.testing.assert_close(made(others)[row], out[row])
        torch.testing.assert_close(made(states[row : row + 1], [row])[0], out[row])
    watched = states.clone().requires_grad_()
    made(watched)[1].square().sum().backward()
    assert watched.grad[1].abs().sum() > 0
    assert watched.grad[[0, 2]].abs().sum() == 0


def test_each_image_is_decoded_alone(states):
    made = head()
    torch.testing.assert_close(made(states)[:, :1], made(states[:, :1]), rtol=1e-4, atol=1e-5)


def test_it_is_the_paper_head_of_a_translated_tap(states):
    made = head()
    made.mean.normal_(), made.scale.uniform_(0.5, 2)
    translated = made.translators[1]((states[1] - made.mean[1]) / made.scale[1])
    torch.testing.assert_close(made(states[1:2], [1])[0], made.head([translated]))
    block = made.head.fusion.blocks[0]
    torch.testing.assert_close(made.head.fusion([translated]), block(translated, translated))


def test_calibration_puts_every_channel_on_one_scale():
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(3, 6, 9, WIDTH, generator=generator)
    raw = raw * torch.tensor([1.0, 50.0, 1e-2, 3.0, 1.0, 1.0]) + torch.tensor([0.0, 900.0, 0, 0, 0, 5])
    raw = raw * torch.tensor([1.0, 10.0, 100.0])[:, None, None, None]
    raw[0, ..., 3] = 7.0  # a channel that never changes
    made = head()
    made.calibrate([raw[:, :2], raw[:, 2:3], raw[:, 3:]])
    flat = raw.flatten(1, 2).double()
    torch.testing.assert_close(made.mean.double(), flat.mean(1), rtol=1e-5, atol=1e-5)
    expected = flat.std(1, correction=0)
    floor = 1e-3 * expected.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(made.scale.double(), torch.maximum(expected, floor), rtol=1e-4, atol=1e-6)
    assert made.scale[0, 3] == pytest.approx(float(floor[0, 0])), "no division by zero"
    made.calibrate([torch.ones(3, 1, 2, WIDTH)])
    assert (made.scale == 1).all(), "layers that never change"


def test_calibration_needs_finite_states(states):
    with pytest.raises(LensError, match="none came"):
        head().calibrate([])
    states[2, 0, 0, 0] = float("inf")
    with pytest.raises(LensError, match=r"\[2\] \(from 0\)"):
        head().calibrate([states])


def test_the_loss_is_the_mean_over_the_layers(states, patches):
    made = head()
    losses = [paper_loss(made(states)[row], patches) for row in range(3)]
    torch.testing.assert_close(made.layer_losses(states, patches), torch.stack(losses))
    torch.testing.assert_close(made.loss(states, patches), torch.stack(losses).mean())
    torch.testing.assert_close(made.loss(states[[0, 2]], patches, [0, 2]), (losses[0] + losses[2]) / 2)
    with pytest.raises(InputError, match="States of 3 layers came for 1 rows"):
        made.loss(states, patches, [1])


@pytest.mark.parametrize("rank", [None, 2])
def test_layers_that_a_step_leaves_out_take_no_gradient(states, patches, rank):
    made = head(rank)
    made.loss(states[[0, 2]], patches, [0, 2]).backward()
    for name, parameter in made.named_parameters():
        if name.startswith("translators.1."):
            assert parameter.grad is None, name
        else:
            assert parameter.grad.abs().sum() > 0, name
    assert not {"mean", "scale"} & {name for name, _ in made.named_parameters()}


def test_without_token_mixers_a_patch_depends_on_its_own_token(states):
    config = PaperConfig(
        fusion=FusionConfig(width=WIDTH, n_taps=1, n_blocks=0, n_heads=2, mixer=MIXER),
        decoder=DecoderConfig(width=WIDTH, patch=PATCH, n_layers=0, mixer=MIXER),
    )
    torch.manual_seed(0)
    made = TunedHead(TunedConfig(n_layers=3, head=config), backend="torch")
    out = made(states)
    changed = states.clone()
    changed[:, :, 4] += torch.randn(WIDTH)
    moved = (made(changed) - out).abs().amax(dim=(0, 1, 3)) > 1e-6
    assert moved.nonzero().flatten().tolist() == [4]
    mixed = head()
    assert (mixed(changed) - mixed(states)).abs().amax(dim=(0, 1, 3)).gt(1e-6).sum() > 1


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"n_taps must be 1"):
        TunedConfig(n_layers=2, head=paper_config(width=WIDTH, patch=PATCH))
    with pytest.raises(InputError, match="target pixels; got 1 and features"):
        TunedConfig(n_layers=2, head=paper_config(width=6, patch=2, n_taps=1, feature_widths=(4,)))
    with pytest.raises(InputError, match=r"rank must lie in 1…6"):
        small(rank=7)
    with pytest.raises(InputError, match="n_layers"):
        small(n_layers=0)


def test_it_decodes_a_trace_layer_by_layer(make_model, make_trace):
    made, trace = lens(make_model()), make_trace(layers=LAYERS)
    assert isinstance(made, Lens)
    assert made.info.kind == "tuned"
    assert made.info.form == "paper"
    assert recording_for(made) == (("resid_post",), LAYERS)
    decoding = decode(trace, made)
    assert decoding.layers == LAYERS
    assert decoding.patches.shape == (3, 2, 9, PATCH, PATCH, 3)
    with torch.no_grad():
        for row, layer in enumerate(LAYERS):
            units = made.head(trace["resid_post", layer][None], [row])[0]
            expected = (units * 0.25 + 0.5).reshape(2, 9, PATCH, PATCH, 3)
            np.testing.assert_allclose(decoding.patches[row], expected.numpy(), rtol=1e-4, atol=1e-5)
    some = decode(trace, made, layers=(2,))
    np.testing.assert_allclose(some.patches[0], decoding.patches[2], rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_refused(make_model, make_trace):
    made = lens(make_model())
    with pytest.raises(LensMismatchError, match="layer 7 was asked for"):
        made.reads(7)
    with pytest.raises(LensMismatchError, match=r"reads states of width 6; these have 5"):
        made.decode(torch.zeros(1, 9, 5), 0)
    stranger = make_trace(model=make_model(fingerprint="a" * 32))
    with pytest.raises(LensMismatchError, match="fitted on toy"):
        decode(stranger, made)
    forced = decode(stranger, made, layers=(3,), force=True)
    assert any("2 is nearest" in reason for reason in forced.forced_reasons)
    with pytest.raises(LensError, match="translators of 3 layers; 2 were named"):
        lens(make_model(), layers=(0, 1))
    with pytest.raises(LensError, match="no grid of image tokens"):
        lens(make_model(grid=None))


def test_its_quality_is_measured_like_any_lens(make_model, make_trace):
    made, trace = lens(make_model()), make_trace(layers=LAYERS)
    decoding = decode(trace, made)
    measured = with_quality(made, [decoding])
    assert measured.info.quality == quality_of([decoding])[0]
    assert measured.head is made.head
    assert "tuned lens (paper form), resid_post, held-out R²" in measured.info.describe()


@pytest.mark.parametrize("rank", [None, 2])
def test_it_survives_its_file(make_model, make_trace, tmp_path, rank):
    made, trace = lens(make_model(), rank), make_trace(layers=LAYERS)
    made.head.mean.normal_()
    path = save_lens(made, tmp_path / "tuned.lens")
    back = load_lens(path)
    assert back.info == made.info == read_info(path)
    assert back.head.config == made.head.config
    assert not back.head.training
    assert not any(parameter.requires_grad for parameter in back.head.parameters())
    for name, values in made.head.state_dict().items():
        assert torch.equal(back.head.state_dict()[name], values), name
    np.testing.assert_allclose(decode(trace, back).patches, decode(trace, made).patches, atol=1e-5)
    assert find_lens(tmp_path, "tuned") == path
    half = replace(made, head=made.head.half())
    again = load_lens(save_lens(half, tmp_path / "half.lens"))
    assert next(again.head.parameters()).dtype == torch.float32
    np.testing.assert_allclose(decode(trace, again).patches, decode(trace, back).patches, atol=0.05)


def test_a_changed_file_is_refused(make_model, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    path = save_lens(lens(make_model()), tmp_path / "tuned.lens")
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["emma_viz.lens"])

    def write(changes: dict) -> None:
        sizes = {**header["parts"]["sizes"], **changes}
        text = json.dumps({**header, "parts": {"sizes": sizes}})
        save_file(tensors, path, metadata={"emma_viz.lens": text})

    write({"rank": 3})
    with pytest.raises(LensError, match=r"tensors do not fit the sizes of the decoder: translators\.0"):
        load_lens(path)
    write({"n_layers": 2})
    with pytest.raises(LensError, match="do not fit"):
        load_lens(path)
    write({"colour": 1})
    with pytest.raises(LensError, match="sizes of this tuned lens"):
        load_lens(path)
