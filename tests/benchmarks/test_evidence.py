"""The benchmark of evidence measures what it says, on a shape that is done in a moment."""

from dataclasses import replace

import pytest

from benchmarks import evidence


@pytest.mark.parametrize("name", list(evidence.MODELS))
def test_every_method_runs_at_every_kind_of_layer(monkeypatch, name):
    small = replace(evidence.MODELS[name], d_model=32, d_state=8, **({"headdim": 16} if "v2" in name else {}))
    monkeypatch.setitem(evidence.MODELS, name, small)
    for method in evidence.METHODS:
        wall, busy, peak = evidence.measure(name, method, layers=2, length=9, backend="torch")
        assert min(wall, busy) > 0
        assert peak >= 0
