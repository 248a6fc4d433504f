"""Trust: maps of a model that learnt nothing are called uninformative, and its weights are as they were."""

import numpy as np
import pytest
import torch

from probes.causes.trust import METHODS, STAGES, Trust
from probes.examination import Plan, examine
from probes.findings import differences, find
from probes.protocol import Result
from probes.subjects import Scenes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def random(tiny, tmp_path_factory):
    """Of a tiny model with random weights, and whether its weights came back."""
    before = {name: each.clone() for name, each in tiny.vlm.state_dict().items()}
    plan = Plan(probes=(Trust(),), subjects=Scenes(12), folder=tmp_path_factory.mktemp("trust"), quick=True)
    _, gathered = examine(tiny, plan)["trust"]
    back = all(torch.equal(each, before[name]) for name, each in tiny.vlm.state_dict().items())
    return Result(gathered=gathered, findings=find(Trust().measures(gathered))), back


def test_maps_of_random_weights_are_called_uninformative(random):
    result, back = random
    assert back
    judged = [
        each for each in result.findings if each.measure.name.split(".")[1] in ("energy", "points", "learnt")
    ]
    assert len(judged) == 3 * len(METHODS)
    assert not any(each.beats for each in judged)
    assert all("not better than its control" in each.sentence for each in judged)
    assert "none." in Trust().summary([result])


def test_likeness_falls_as_more_is_shuffled_and_charts_are_drawn(random):
    result, _ = random
    for name in METHODS:
        numbers = [result.one(f"trust.like.{name}.{stage}").number.value for stage in range(1, STAGES + 1)]
        assert np.isfinite(numbers).all()
        assert abs(numbers[-1]) < 0.5
        alike = [result.one(f"trust.ssim.{name}.{stage}").number.value for stage in range(1, STAGES + 1)]
        assert abs(alike[-1]) < 0.5
    assert [chart.name for chart in Trust().plots([result, result])] == [
        "cascade",
        "cascade-ssim",
        "energy",
        "points",
    ]
    measures = [each.measure for each in result.findings]
    assert all(
        each.over.value == 0 for each in differences(measures, measures) if np.isfinite(each.over.value)
    )
