"""Tiny random models and a few scenes, as an examination takes them."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from probes.examination import Plan
from probes.subjects import Scenes
from tests.tiny_model import tiny_model, tiny_tokenizer


@pytest.fixture(scope="session")
def tiny():
    """A tiny model with random weights."""
    return tiny_model("tiny-emma-v1", tiny_tokenizer())


@pytest.fixture(scope="session")
def loud(tiny):
    """The same with logits large enough for twins and questions to be told apart."""
    vlm = deepcopy(tiny.vlm)
    with torch.no_grad():
        vlm.llm.backbone.norm_f.weight.mul_(1e5)
    return replace(tiny, vlm=vlm)


@pytest.fixture(scope="session")
def scenes():
    """Six scenes with twins."""
    return Scenes(6)


@pytest.fixture
def plan(tmp_path, scenes):
    """Makes a plan of some probes."""

    def make(*probes, **changes) -> Plan:
        given = {"subjects": scenes, "folder": tmp_path / "seen", "save_seconds": 0.0, "quick": True}
        return Plan(probes=probes, **{**given, **changes})

    return make
