"""Geometry and sinks: what was planted is found, and where nothing was planted nothing is."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from emma_viz.evidence.intervention import Intervention
from emma_viz.evidence.interventions import intervene
from probes.content.geometry import GeometryProbe
from probes.content.sinks import Sinks
from probes.examination import examine
from probes.findings import find
from probes.protocol import Result
from probes.subjects import Scenes


@pytest.fixture(scope="module")
def looked(tiny, tmp_path_factory, scenes):
    """What both probes see of a tiny model whose image tokens are all replaced by one before block 2."""
    from probes.examination import Plan

    count = tiny.vlm.n_image_tokens
    wipe = Intervention(kind="zero", site="resid_pre", tokens=tuple(range(count)), layers=(2,))
    plan = Plan(
        probes=(GeometryProbe(), Sinks()), subjects=scenes, folder=tmp_path_factory.mktemp("seen"), save_seconds=0.0,
        quick=True,
    )  # fmt: skip
    with intervene(tiny, [wipe]):
        found = examine(tiny, plan)
    return {
        name: Result(gathered=gathered, findings=find(probe.measures(gathered)))
        for (name, (_, gathered)), probe in zip(found.items(), plan.probes, strict=True)
    }


def test_tokens_that_were_made_equal_lie_in_no_direction(looked):
    curve = {each.measure.layer: each.number.value for each in looked["geometry"].curve("geometry.rank")}
    assert curve[1] > 3
    assert not curve[2] > 3


def test_a_smooth_field_that_was_planted_is_smooth_and_nothing_is_where_none_was(tiny, plan):
    count, width = tiny.vlm.n_image_tokens, tiny.vlm.llm.config.d_model
    columns = round(count**0.5)
    field = np.arange(count) % columns - (columns - 1) / 2
    ramp = field[:, None] * np.linspace(1, 2, width)[None]
    smooth = Intervention(
        kind="replace",
        site="resid_pre",
        tokens=tuple(range(count)),
        layers=(1,),
        value=ramp.astype(np.float32),
    )
    with intervene(tiny, [smooth]):
        _, gathered = examine(tiny, plan(GeometryProbe()))["geometry"]
    curve = {
        each.measure.layer: each
        for each in find(GeometryProbe().measures(gathered))
        if each.measure.name == "geometry.moran"
    }
    assert curve[1].beats
    assert curve[1].number.value > 0.5
    assert curve[1].control.value == pytest.approx(-1 / (count - 1), abs=0.2)


def test_layers_resemble_until_the_picture_is_gone(looked):
    curve = {each.measure.layer: each for each in looked["geometry"].curve("geometry.cka_first")}
    assert curve[0].beats
    assert curve[0].control.value == pytest.approx(0, abs=0.1)
    assert not curve[2].beats
    near = {each.measure.layer: each for each in looked["geometry"].curve("geometry.neighbours_before")}
    assert near[0].beats
    assert not near[2].beats
    dimension = {
        each.measure.layer: each.number.value for each in looked["geometry"].curve("geometry.dimension")
    }
    assert dimension[1] > 1
    assert not dimension[2] > 1


def test_only_patches_that_write_something_move_the_answer_when_they_are_passed_over(tiny, plan):
    """All patches but the first are kept from every state: what states hold of the image is the first patch alone."""
    others = tuple(range(1, tiny.vlm.n_image_tokens))
    with intervene(tiny, [Intervention(kind="write", tokens=others)]):
        _, gathered = examine(tiny, plan(Sinks(), subjects=Scenes(2), quick=False))["sinks"]
    moved, random = (gathered.columns[f"moved_first{end}"] for end in ("", "_control"))
    assert (moved > 3 * random).all()


def test_a_state_that_forgets_and_one_that_does_not_are_told_apart(tiny, plan):
    vlm = deepcopy(tiny.vlm)
    with torch.no_grad():
        vlm.llm.backbone.layers[1].mixer.A_log.fill_(-25.0)
        vlm.llm.backbone.layers[2].mixer.A_log.fill_(25.0)
    _, gathered = examine(replace(tiny, vlm=vlm), plan(Sinks(), subjects=Scenes(2)))["sinks"]
    usual, kept, lost = gathered.columns["retained"].T
    np.testing.assert_allclose(kept, 1, atol=1e-6)
    assert (lost < 1e-6).all()
    assert ((usual > 1e-3) & (usual < 0.999)).all()
    np.testing.assert_allclose(gathered.columns["kept_first"][:, 1], gathered.columns["write_first"][:, 1])


def test_a_first_patch_that_was_made_loud_is_named(tiny, plan):
    """Block 1 takes a far larger step at the first token: that is where the sink is found."""
    width = tiny.vlm.llm.backbone.layers[1].mixer.out_proj.in_features
    loud = np.full(width, 20.0, dtype=np.float32)
    first = Intervention(kind="replace", site="delta", tokens=(0,), layers=(1,), value=loud)
    with intervene(tiny, [first]):
        _, gathered = examine(tiny, plan(Sinks()))["sinks"]
    result = Result(gathered=gathered, findings=find(Sinks().measures(gathered)))
    curve = {each.measure.layer: each for each in result.curve("sinks.step_first")}
    assert curve[1].beats
    assert curve[1].number.value > 5
    assert "layer 1" in Sinks().summary([result])
