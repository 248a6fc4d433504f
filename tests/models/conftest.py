"""Tiny random models for the tests of this folder."""

from dataclasses import replace

import pytest
import torch

from emma_viz.models import PRESETS, VLM


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(20)


@pytest.fixture(params=["tiny-emma-v1", "tiny-emma-v2"])
def vlm(request):
    """A tiny Mamba-1 or Mamba-2 VLM, in evaluation mode."""
    return build(request.param)


@pytest.fixture
def pixels():
    """Normalised pixels of three images for the tiny towers."""
    return tuple(torch.randn(3, 3, 60, 60) for _ in range(2))


def build(name, **llm):
    """A tiny preset with random weights large enough that every token matters."""
    config = PRESETS[name]()
    model = VLM(replace(config, llm=replace(config.llm, **llm)))
    with torch.no_grad():
        model.llm.backbone.embedding.weight.mul_(2)
        for block in model.llm.backbone.layers:
            block.mixer.out_proj.weight.mul_(40)
    return model.eval()
