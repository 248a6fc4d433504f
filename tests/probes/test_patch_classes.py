"""Linear probes of patches: what was planted at one layer is found there, and random weights say nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from emma_viz.evidence.intervention import Intervention
from emma_viz.evidence.interventions import intervene
from probes.content.patch_classes import PatchClasses
from probes.examination import examine
from probes.findings import find
from probes.protocol import Result

pytestmark = pytest.mark.slow


def read(model, plan, *changes) -> Result:
    """What linear probes find in a model with something changed in it."""
    with intervene(model, list(changes)):
        _, gathered = examine(model, plan)["patches"]
    return Result(gathered=gathered, findings=find(PatchClasses().measures(gathered)))


@pytest.fixture(scope="module")
def plain(tiny, scenes, tmp_path_factory):
    """Of a tiny model with random weights."""
    from probes.examination import Plan

    folder = tmp_path_factory.mktemp("patches")
    return read(tiny, Plan(probes=(PatchClasses(),), subjects=scenes, folder=folder, quick=True))


def test_what_was_planted_is_found_at_its_layer_and_values_that_are_not_finite_are_said(tiny, plan, plain):
    """Before block 1, each token is replaced by a vector that says in which ninth it lies, and nothing else."""
    rows, columns = tiny.vlm.grid
    count, width = rows * columns, tiny.vlm.llm.config.d_model
    index = np.arange(count)
    ninth = index // columns * 3 // rows * 3 + index % columns * 3 // columns
    value = 30 * np.random.default_rng(0).normal(size=(9, width))[ninth].astype(np.float32)
    planted = Intervention(
        kind="replace", site="resid_pre", tokens=tuple(range(count)), layers=(1,), value=value
    )
    weight = tiny.vlm.llm.backbone.layers[2].mixer.out_proj.weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight[0, 0] = float("nan")
    try:
        found = read(tiny, plan(PatchClasses()), planted)
    finally:
        with torch.no_grad():
            weight.copy_(before)
    curve = {each.measure.layer: each for each in found.curve("patches.place")}
    place = {layer: each.number.value for layer, each in curve.items()}
    assert place[1] > 0.9
    assert place[0] == {each.measure.layer: each.number.value for each in plain.curve("patches.place")}[0]
    assert "not defined" in curve[2].sentence
    tints = {each.measure.layer: each.number.value for each in found.curve("patches.tint")}
    assert tints[1] < tints[0]


def test_random_weights_are_called_uninformative(plain):
    """The weights are random: no layer may be told from the same weights in another order, but for chance."""
    found = [each for name in ("kind", "object", "present") for each in plain.curve(f"patches.{name}")]
    assert found
    assert sum(bool(each.beats) for each in found) <= 0.1 * len(found) + 1


def test_what_stands_beside_each_layer_is_there(plain):
    for space in ("pixels", "position", "tower"):
        assert plain.one(f"patches.object.{space}") is not None
    assert plain.one("patches.place.position").number.value > 0.95
    look = plain.curve("patches.tint.by_look")
    assert look
    assert all(each.control is not None for each in look)
    assert len(PatchClasses().plots([plain])) > 6
    assert "raw pixels" in PatchClasses().summary([plain])


def test_a_model_less_itself_is_exactly_nothing(plain):
    from probes.findings import differences

    measures = [each.measure for each in plain.findings]
    assert all(
        each.over.value == 0 for each in differences(measures, measures) if np.isfinite(each.over.value)
    )


def test_images_without_labels_are_asked_about_their_pixels(tiny, plan, scenes):
    class Bare:
        """The same scenes with nothing known of them."""

        names, digest, said, labels, pairs = scenes.names, "bare", "bare scenes", False, False

        def __len__(self):
            return len(scenes)

        def take(self, number):
            found = scenes.take(number)
            return replace(
                found, image=Image.fromarray(np.array(found.image)), mask=None, kinds=(), colours=(), target=0
            )

    found = read(tiny, plan(PatchClasses(), subjects=Bare()))
    assert found.curve("patches.tint")
    assert not found.curve("patches.kind")
    assert not found.curve("patches.count")
