"""A tiny random model with a tokenizer, and images of several shapes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from emma_viz.checkpoints import LoadedModel
from emma_viz.data.tokenizer import train_tokenizer
from emma_viz.models import PRESETS, VLM


@pytest.fixture(scope="session")
def tokenizer():
    """All bytes and the two special tokens, no merges."""
    return train_tokenizer(["a cup on a table"], vocab_size=258)


@pytest.fixture(scope="session", params=["tiny-emma-v1", "tiny-emma-v2"])
def model(request, tokenizer):
    """A tiny Mamba-1 or Mamba-2 model."""
    return build(request.param, tokenizer)


@pytest.fixture(scope="session")
def one(tokenizer):
    """One tiny model, where the kind does not matter."""
    return build("tiny-emma-v1", tokenizer)


@pytest.fixture(scope="session")
def photos():
    """Three random images, wide, high and square."""
    draw = np.random.default_rng(3)
    sizes = [(40, 70), (90, 50), (60, 60)]
    return [Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def build(name, tokenizer):
    """A preset with random weights that make every token matter (the official start is nearly linear)."""
    torch.manual_seed(5)
    config = PRESETS[name]()
    vlm = VLM(replace(config, llm=replace(config.llm, vocab_size=tokenizer.vocab_size)), backend="torch")
    with torch.no_grad():
        vlm.llm.backbone.embedding.weight.mul_(2)
        for block in vlm.llm.backbone.layers:
            block.mixer.out_proj.weight.mul_(40)
    return LoadedModel.from_vlm(vlm.eval(), tokenizer, name=name)
