"""Names, shapes and counts of the released models, checked without memory on the meta device."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from emma_viz.models import PRESETS, VLM

KEYS = Path(__file__).parents[1] / "data" / "keys"
LLM_PARAMETERS = {"cobra-3b": 2_768_345_600, "emma-v1-3b": 2_768_345_600, "emma-v2-3b": 2_702_599_680}


@pytest.fixture(scope="module", params=sorted(LLM_PARAMETERS))
def official(request):
    with torch.device("meta"):
        return request.param, VLM(PRESETS[request.param]())


def shapes(module: nn.Module, prefix: str = "") -> dict[str, list[int]]:
    return {prefix + key: list(tensor.shape) for key, tensor in module.state_dict().items()}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_keys_and_shapes_are_the_released_ones(official):
    name, vlm = official
    expected = json.loads((KEYS / f"{name}.json").read_text())
    assert shapes(vlm.projector) == expected["projector"]
    assert shapes(vlm.llm, "llm.") == expected["llm_backbone"]


def test_parameters_land_on_the_papers_table(official):
    name, vlm = official
    assert count(vlm.projector) == 47_789_568
    assert count(vlm.llm) == LLM_PARAMETERS[name]
    assert count(vlm.vision) // 10**6 == 731


def test_nothing_but_parameters_is_left_on_the_meta_device(official):
    _, vlm = official
    assert all(parameter.is_meta for parameter in vlm.parameters())
    assert [name for name, buffer in vlm.named_buffers() if buffer.is_meta] == []


def test_the_paths_of_hook_points(official):
    _, vlm = official
    modules = dict(vlm.named_modules())
    block = [
        f"llm.backbone.layers.63.hook_{site}" for site in ("resid_pre", "mixer_in", "mixer_out", "resid_post")
    ]
    mixer = [f"llm.backbone.layers.0.mixer.hook_{site}" for site in ("conv", "delta", "B", "C", "y")]
    for path in [*block, *mixer, "llm.backbone.hook_embed", "llm.backbone.hook_norm_f"]:
        assert path in modules, path
