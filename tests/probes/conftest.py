"""Tiny random models and a few scenes, as an examination takes them."""

import pytest

from probes.examination import Plan
from probes.subjects import Scenes
from tests.tiny_model import tiny_model, tiny_tokenizer


@pytest.fixture(scope="session")
def tiny():
    """A tiny model with random weights."""
    return tiny_model("tiny-emma-v1", tiny_tokenizer())


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
