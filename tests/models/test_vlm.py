from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from emma_viz.errors import InputError
from emma_viz.kernels import products
from emma_viz.models import PRESETS, VLM, ProjectorConfig
from emma_viz.models.linear import LinearLayer

T, M = 16, 6


@pytest.fixture
def ids():
    return torch.randint(60, (3, M))


@torch.no_grad()
def test_the_image_comes_first(vlm, pixels, ids):
    embeddings = torch.cat([vlm.projector(vlm.vision(pixels)), vlm.llm.backbone.embedding(ids)], dim=1)
    hidden = vlm.llm.backbone(embeddings)
    output = vlm(pixels, ids, logits="all")
    assert output.n_image == vlm.n_image_tokens == T
    assert vlm.grid == (4, 4)
    assert torch.equal(output.hidden, hidden)
    assert torch.equal(output.logits, hidden @ vlm.llm.lm_head.weight.T)


@torch.no_grad()
def test_rows_of_logits(vlm, pixels, ids):
    everything = vlm(pixels, ids, logits="all").logits
    assert torch.equal(vlm(pixels, ids, logits="text").logits, everything[:, T - 1 :])
    assert torch.allclose(vlm(pixels, ids, logits="last").logits, everything[:, -1:], atol=1e-5)
    assert vlm(pixels, ids, logits="none").logits is None
    ends = torch.tensor([6, 1, 4])
    last = vlm(pixels, ids, lengths=ends, logits="last").logits
    assert torch.allclose(last[:, 0], everything[torch.arange(3), T + ends - 1], atol=1e-5)


@torch.no_grad()
def test_text_alone_and_image_alone(vlm, pixels, ids):
    assert vlm(None, ids).logits.shape == (3, M, vlm.config.llm.padded_vocab_size)
    image = vlm(pixels)
    assert image.hidden.shape == (3, T, 32)
    assert image.logits.shape[1] == 1


@torch.no_grad()
def test_precomputed_features_stand_for_pixels(vlm, pixels, ids):
    features = vlm.vision(pixels)
    assert torch.equal(vlm(None, ids, features=features).logits, vlm(pixels, ids).logits)
    assert torch.equal(vlm.embed_image(features=features), vlm.embed_image(pixels))


@torch.no_grad()
def test_padding_on_the_right_changes_nothing_before_it(vlm, pixels, ids):
    longer = torch.cat([ids, torch.full((3, 4), 1)], dim=1)
    assert torch.allclose(vlm(pixels, longer).logits[:, : M + 1], vlm(pixels, ids).logits, atol=1e-5)


def test_gradients_reach_all_but_the_encoders(vlm, pixels, ids):
    vlm.train()
    vlm(pixels, ids).logits.logsumexp(-1).sum().backward()
    for name, parameter in vlm.named_parameters():
        if name.startswith("vision."):
            assert parameter.grad is None, name
        else:
            assert parameter.grad.abs().sum() > 0, name


def test_a_meta_model_filled_by_assignment_works(vlm, pixels, ids):
    with torch.device("meta"):
        empty = VLM(vlm.config)
    empty.load_state_dict(vlm.state_dict(), assign=True)
    with torch.no_grad():
        assert torch.equal(empty(pixels, ids).logits, vlm(pixels, ids).logits)
    assert empty.llm.lm_head.weight.requires_grad
    assert not any(parameter.requires_grad for parameter in empty.vision.parameters())


@torch.no_grad()
def test_the_pocket_model_runs_with_positions():
    vlm = VLM(PRESETS["emma-v2-pocket"]()).eval()
    assert {"projector.row", "projector.col"} <= set(vlm.state_dict())
    output = vlm((torch.randn(1, 3, 128, 128),), torch.tensor([[5, 6]]))
    assert output.hidden.shape == (1, 256 + 2, vlm.config.llm.d_model)
    assert output.logits.isfinite().all()


@torch.no_grad()
def test_a_pooling_projector_shortens_the_image(pixels):
    config = replace(
        PRESETS["tiny-cobra"](), projector=ProjectorConfig(kind="fused-ldpnet", pooled_grid=(3, 2))
    )
    vlm = VLM(config)
    assert (vlm.grid, vlm.n_image_tokens) == ((3, 2), 6)
    assert vlm(pixels, torch.tensor([[1]] * 3)).n_image == 6


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({}, "nothing to run over"),
        ({"input_ids": torch.tensor([[10_000]])}, "tokenizer"),
        ({"input_ids": torch.tensor([[-1]])}, "tokenizer"),
        ({"input_ids": torch.tensor([[1, 2]]), "lengths": torch.tensor([3])}, "lengths"),
        ({"input_ids": torch.tensor([[1, 2]]), "lengths": torch.tensor([0])}, "lengths"),
    ],
)
def test_what_does_not_fit_is_refused(vlm, arguments, named):
    with pytest.raises(InputError, match=named):
        vlm(**arguments)


def test_pixels_and_features_together_are_refused(vlm, pixels):
    with pytest.raises(InputError, match="either"):
        vlm.embed_image(pixels, features=torch.zeros(3, 16, 40))


TINY = {name: preset for name, preset in PRESETS.items() if name.startswith("tiny-")}
TINY["tiny-cobra with the cross-scan"] = lambda: replace(
    PRESETS["tiny-cobra"](), projector=ProjectorConfig(kind="gelu-mlp", cross_scan=True)
)


@pytest.mark.parametrize("name", TINY)
def test_every_linear_layer_has_the_kernels(name):
    """Of encoders, projector and language model; a scan calls its `dt_proj` through them itself."""
    model = VLM(TINY[name](), backend="torch")
    layers = {key: each for key, each in model.named_modules() if isinstance(each, nn.Linear)}
    plain = [key for key, each in layers.items() if type(each) is nn.Linear and not key.endswith("dt_proj")]
    assert plain == []
    assert {each.backend for each in layers.values() if isinstance(each, LinearLayer)} == {"torch"}


@pytest.mark.parametrize("name", TINY)
def test_no_product_is_made_in_half_precision_that_torch_only_emulates(name, monkeypatch):
    """As on AVX2, in a whole pass."""
    monkeypatch.setattr(products, "_emulates_halves", lambda: True)
    seen, product = [], functional.linear
    monkeypatch.setattr(
        functional, "linear", lambda x, *rest: seen.append((x.dtype, x.shape)) or product(x, *rest)
    )
    config = TINY[name]()
    model, side, text = VLM(config).bfloat16().eval(), config.vision.image_size, config.vision.text
    pixels = [torch.rand(1, 3, side, side).bfloat16() for _ in config.vision.towers]
    asked = None if text is None else torch.ones(1, text.context, dtype=torch.long)
    with torch.no_grad():
        model(pixels, torch.ones(1, 12, dtype=torch.long), instruction=asked)
    assert len(seen) > 5
    made = {(dtype, shape) for dtype, shape in seen if shape[:-1].numel() > 8}
    assert {dtype for dtype, _ in made} == {torch.float32}, made
