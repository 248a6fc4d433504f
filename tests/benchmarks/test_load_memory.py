"""The files that the measurement of memory makes are read as a model is; how much that takes is not looked at."""

import sys

import pytest

from benchmarks import load_memory
from emma_viz.models import PRESETS
from emma_viz.models.sizes import parameters


@pytest.mark.skipif(sys.platform == "win32", reason="the system does not tell the peak of memory")
def test_shards_of_made_up_weights_are_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(load_memory, "_SHARD", 2**14)
    load_memory.make_ours("tiny-emma-text-fusion", tmp_path, 3)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    held, peak = load_memory.load(tmp_path)
    assert 2 * parameters(PRESETS["tiny-emma-text-fusion"]()) <= held < peak
