import pytest
import torch
from torch import nn
from torch.nn import functional

from emma_viz.errors import InputError
from emma_viz.models import Projector, ProjectorConfig

FEATURES, WIDTH, GRID = 12, 8, (6, 6)


def build(kind, **settings):
    config = ProjectorConfig(kind=kind, pooled_grid=(4, 4), **settings)
    return Projector(config, features=FEATURES, width=WIDTH, grid=GRID)


KEYS = {
    "linear": {"weight": (8, 12), "bias": (8,)},
    "gelu-mlp": {"0.weight": (8, 12), "0.bias": (8,), "2.weight": (8, 8), "2.bias": (8,)},
    "fused-gelu-mlp": {
        "0.weight": (48, 12), "0.bias": (48,), "2.weight": (8, 48), "2.bias": (8,),
        "4.weight": (8, 8), "4.bias": (8,),
    },
    "fused-ldpnet": {
        "0.weight": (48, 12), "0.bias": (48,), "2.weight": (8, 48), "2.bias": (8,),
        "4.peg.0.weight": (8, 1, 3, 3), "4.peg.0.bias": (8,),
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", KEYS)
def test_keys_are_the_released_ones(kind):
    state = build(kind).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == {
        f"projector.{key}": shape for key, shape in KEYS[kind].items()
    }


@torch.no_grad()
def test_fused_ldpnet_pools_then_adds_a_local_convolution():
    projector = build("fused-ldpnet")
    features = torch.randn(2, 36, FEATURES)
    first, second, peg = projector.projector[0], projector.projector[2], projector.projector[4].peg[0]
    plane = second(functional.gelu(first(features))).transpose(1, 2).reshape(2, WIDTH, 6, 6)
    pooled = functional.adaptive_avg_pool2d(plane, (4, 4))
    convolved = functional.conv2d(pooled, peg.weight, peg.bias, padding=1, groups=WIDTH)
    tokens = projector(features)
    assert projector.grid == (4, 4)
    assert tokens.shape == (2, 16, WIDTH)
    assert torch.allclose(tokens, (pooled + convolved).flatten(2).transpose(1, 2), atol=1e-6)


@torch.no_grad()
def test_fused_gelu_mlp_by_hand():
    projector = build("fused-gelu-mlp")
    layers = [layer for layer in projector.projector if isinstance(layer, nn.Linear)]
    features = torch.randn(1, 36, FEATURES)
    expected = layers[2](functional.gelu(layers[1](functional.gelu(layers[0](features)))))
    assert torch.allclose(projector(features), expected)


def test_the_hidden_width_can_be_set():
    assert build("fused-gelu-mlp", hidden_multiplier=2).projector[0].weight.shape == (24, 12)


@torch.no_grad()
def test_positions_are_a_row_and_a_column_per_token():
    projector = build("linear", positions=True)
    assert set(projector.state_dict()) == {"row", "col", "projector.weight", "projector.bias"}
    places = projector(torch.zeros(1, 36, FEATURES))[0] - projector.projector.bias
    token = 2 * 6 + 5
    assert torch.allclose(places[token], projector.row[2] + projector.col[5], atol=1e-6)


def test_positions_start_with_the_asked_spread():
    projector = Projector(
        ProjectorConfig(kind="linear", positions=True, position_std=1.2), features=2, width=400, grid=(10, 10)
    )
    assert abs(projector.row.std() - 1.2) < 0.05


def test_features_are_cast_to_the_projectors_type():
    projector = build("linear").to(torch.bfloat16)
    assert projector(torch.randn(1, 36, FEATURES)).dtype == torch.bfloat16


def test_pooling_up_is_refused():
    with pytest.raises(InputError, match="pooled_grid"):
        Projector(ProjectorConfig(kind="fused-ldpnet"), features=FEATURES, width=WIDTH, grid=GRID)
