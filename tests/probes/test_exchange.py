"""Exchange: a checkpoint is itself, one that was turned is understood through a map alone, and a strange one is not."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from emma_viz.checkpoints import LoadedModel
from emma_viz.models import VLM
from probes.causes.exchange import ExchangeProbe
from probes.examination import able, examine
from probes.findings import find
from probes.protocol import Result


@pytest.fixture(scope="module")
def turned(loud):
    """The same function in other directions: all that runs in its stream is turned by one orthogonal matrix."""
    vlm = deepcopy(loud.vlm)
    llm, width = vlm.llm, vlm.llm.config.d_model
    turn = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(0)))[0]
    with torch.no_grad():
        head = (llm.lm_head.weight * llm.backbone.norm_f.weight) @ turn.mT
        llm.lm_head.weight = nn.Parameter(head)
        llm.backbone.norm_f.weight.fill_(1)
        llm.backbone.embedding.weight = nn.Parameter(llm.backbone.embedding.weight @ turn.mT)
        for block in llm.backbone.layers:
            block.mixer.in_proj.weight.copy_((block.mixer.in_proj.weight * block.norm.weight) @ turn.mT)
            block.norm.weight.fill_(1)
            block.mixer.out_proj.weight.copy_(turn @ block.mixer.out_proj.weight)
        added = nn.Linear(width, width, bias=False)
        added.weight.copy_(turn)
    vlm.projector = nn.Sequential(vlm.projector, added)
    return LoadedModel.from_vlm(vlm.eval(), loud.tokenizer, name="turned")


def looked(model, other, plan) -> Result:
    probe = ExchangeProbe()
    _, gathered = examine(model, plan(probe, other=other, layers=(0, 2)))["exchange"]
    return Result(gathered=gathered, findings=find(probe.measures(gathered)))


def values(result, way):
    return np.array([each.number.value for each in result.curve(f"exchange.{way}")])


@pytest.mark.slow
def test_a_checkpoint_beside_itself_is_exactly_itself(loud, plan):
    result = looked(loud, loud, plan)
    np.testing.assert_allclose(values(result, "cka"), 1, atol=1e-12)
    assert (values(result, "neighbours") == 1).all()
    np.testing.assert_array_equal(values(result, "raw"), values(result, "own"))
    assert values(result, "own")[0] == pytest.approx(1, abs=1e-2)
    charts = ExchangeProbe().plots([result, result])
    assert [each.name for each in charts] == ["cka", "neighbours", "layers", "patched-0", "patched-1"]


@pytest.mark.slow
def test_one_that_was_turned_is_understood_through_a_map_and_not_as_it_is(loud, turned, plan):
    result = looked(loud, turned, plan)
    np.testing.assert_allclose(values(result, "cka"), 1, atol=1e-3)
    assert (values(result, "neighbours") > 0.99).all()
    own, mapped, raw = (values(result, way) for way in ("own", "mapped", "raw"))
    assert np.abs(mapped - own).max() < 0.1
    assert np.abs(raw - own).max() > 0.5
    controls = np.array([each.control.value for each in result.curve("exchange.mapped") if each.control])
    assert (np.abs(controls[:1] - own[:1]) > 0.3).all()
    assert "fitted map" in ExchangeProbe().summary([result])


def test_checkpoints_of_other_grids_and_one_alone_are_a_sentence(loud, plan, scenes):
    class Row(VLM):
        grid = (1, loud.vlm.n_image_tokens)

    vlm = deepcopy(loud.vlm)
    vlm.__class__ = Row
    result = looked(loud, replace(loud, vlm=vlm), plan)
    assert not result.findings
    assert any("other grids" in note for note in result.gathered.notes)
    kept, said = able((ExchangeProbe(),), scenes)
    assert not kept
    assert "two checkpoints" in said[0]
    assert able((ExchangeProbe(),), scenes, models=2)[0]
