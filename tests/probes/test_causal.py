"""The causal probes on a tiny model, with truths that were planted by hand."""

from dataclasses import replace

import numpy as np
import pytest

from emma_viz.checkpoints.fingerprint import fingerprint
from emma_viz.data.geometry import Geometry
from emma_viz.evidence.case import Case
from emma_viz.evidence.intervention import Intervention
from emma_viz.evidence.interventions import intervene
from emma_viz.evidence.regions import covered_tokens
from probes.causes.attribution import SHUFFLED, AttributionProbe
from probes.causes.flow import Flow
from probes.causes.frozen_parts import FrozenParts
from probes.causes.implicit import Implicit
from probes.causes.knockout import Knockout
from probes.causes.patching import Patching
from probes.causes.regions import elsewhere, random_sets, window
from probes.causes.travel import Travel
from probes.examination import Plan, examine
from probes.findings import find
from probes.protocol import Result
from probes.subjects import Scenes

CAUSAL = (Travel, Implicit, FrozenParts, Knockout, Flow, Patching, AttributionProbe)


def results(found, *probes) -> dict[str, Result]:
    return {
        each.name: Result(gathered=found[each.name][1], findings=find(each.measures(found[each.name][1])))
        for each in probes
    }


@pytest.fixture(scope="module")
def found(tiny, tmp_path_factory):
    """All causal probes on two scenes."""
    probes = tuple(make() for make in CAUSAL)
    plan = Plan(subjects=Scenes(2), probes=probes, folder=tmp_path_factory.mktemp("causal"), quick=True)
    return results(examine(tiny, plan), *probes)


def test_what_must_be_exact_is(found):
    assert found["frozen"].one("frozen.remainder").number.value < 1e-4
    assert found["implicit"].one("implicit.gap").number.value < 1e-4
    for layer in range(found["frozen"].gathered.model.n_layer):
        parts = [
            found["frozen"].curve(f"frozen.{name}")[layer].number.value for name in ("image", "text", "bias")
        ]
        assert sum(parts) == pytest.approx(1, abs=1e-3)
        shares = [
            found["implicit"].curve(f"implicit.{name}")[layer].number.value
            for name in ("image", "text", "bias")
        ]
        assert sum(shares) == pytest.approx(1, abs=1e-6)
    rolled = [
        found["implicit"].one(f"implicit.rollout.{name}").number.value for name in ("image", "text", "bias")
    ]
    assert sum(rolled) == pytest.approx(1, abs=1e-6)


def test_dear_maps_of_a_model_that_learnt_nothing_are_other_maps_of_other_nothings(found, tiny):
    result = found["attribution"]
    for name in SHUFFLED:
        assert abs(result.one(f"attribution.like.{name}").number.value) < 0.9
        assert result.one(f"attribution.rise.{name}").control.value == 0
    assert fingerprint(tiny.vlm.state_dict()) == tiny.info.fingerprint, "every weight is back in its place"


@pytest.mark.slow
def test_dear_maps_are_made_again_as_more_and_more_is_shuffled(tiny, plan, monkeypatch):
    monkeypatch.setattr("probes.causes.attribution.PAIRS", 2)
    probe = AttributionProbe()
    plan = plan(probe, subjects=Scenes(2), quick=False, layers=(0,))
    result = results(examine(tiny, plan), probe)["attribution"]
    for name in SHUFFLED:
        likeness = [result.one(f"attribution.like.{name}{end}") for end in (".1", ".2", ".3", "")]
        assert all(abs(each.number.value) <= 1 for each in likeness if each)
        assert None not in likeness
        assert "last 25 % of the blocks" in likeness[0].measure.title
    assert fingerprint(tiny.vlm.state_dict()) == tiny.info.fingerprint


def test_twins_differ_through_image_tokens_at_first(loud, plan):
    """Before block 0 the text's states are those of both twins, and the image's are all that differs."""
    probe = Patching()
    patching = results(examine(loud, plan(probe, subjects=Scenes(2))), probe)["patching"]
    assert patching.gathered.images == 2
    for end in ("", ".noise"):
        assert patching.curve(f"patching.image{end}")[0].number.value == pytest.approx(1, abs=1e-2)
        assert patching.curve(f"patching.text{end}")[0].number.value == pytest.approx(0, abs=1e-2)
        last = max(abs(each.number.value) for each in patching.curve(f"patching.text{end}")[1:])
        assert last > 5e-2, "later the text holds some of it"
    assert -1 <= patching.one("patching.correlation").number.value <= 1
    assert len(patching.curve("patching.estimate.delta")) == loud.info.n_layer
    assert [each.name for each in probe.plots([patching])] == ["shares-0", "shares-noise-0", "estimates-0"]
    assert loud.info.name in probe.summary([patching])


def test_every_probe_draws_and_says_something(found):
    for make in CAUSAL:
        probe = make()
        result = found[probe.name]
        if result.findings:
            assert probe.plots([result])
            assert result.model in probe.summary([result])
        assert all(each.sentence.endswith(".") for each in result.findings)


@pytest.mark.parametrize("open_layer", [0, 2])
def test_the_state_path_that_was_left_is_the_one_that_is_named(tiny, plan, open_layer):
    """Nothing of an image enters any state but one layer's: only there a knock-out of the write can do anything."""
    image = tuple(range(tiny.vlm.n_image_tokens))
    others = tuple(layer for layer in range(tiny.info.n_layer) if layer != open_layer)
    cut = Intervention(kind="write", tokens=image, layers=others)
    with intervene(tiny, [cut]):
        probe = Knockout(kinds=("write",))
        _, gathered = examine(tiny, plan(probe, subjects=Scenes(2), quick=False))["knockout"]
    effects = np.abs(gathered.columns["layer"])
    assert effects[:, open_layer].min() > 10 * effects[:, list(others)].max()
    assert effects[:, list(others)].max() < 1e-6
    depth = tiny.info.n_layer
    reached = [open_layer in window(layer, depth) for layer in range(depth)]
    windows = np.abs(gathered.columns["window"]).max(axis=0)
    assert [bool(each) for each in windows > 1e-6] == reached


def test_regions_and_what_they_are_compared_with():
    place = np.zeros((4, 6), bool)
    place[1:3, 1:3] = True
    other = elsewhere(place)
    assert other.sum() == place.sum()
    assert not (other & place).any()
    sets = random_sets(place, seed="a")
    assert len(sets) == 10
    assert all(len(set(each)) == 4 and not place.ravel()[each].any() for each in sets)
    assert all(np.array_equal(a, b) for a, b in zip(sets, random_sets(place, seed="a"), strict=True))


def test_an_objects_tokens_are_more_by_a_looser_rule_and_all_that_it_touches_by_the_loosest():
    place = Geometry(image_size=(40, 40), strategy="resize-naive", size=40, patch=5)
    mask = np.zeros((40, 40), bool)
    mask[5:10, 5:10] = mask[5:10, 10:12] = mask[10, 5:10] = True  # whole, two fifths, a fifth
    found = {
        covered: covered_tokens(mask, place, beside=False, covered=covered) for covered in (0.5, 0.25, 0.0)
    }
    expected = {0.5: [(1, 1)], 0.25: [(1, 1), (1, 2)], 0.0: [(1, 1), (1, 2), (2, 1)]}
    for covered, cells in expected.items():
        assert sorted(zip(*np.nonzero(found[covered]), strict=True)) == cells


def test_an_empty_answer_is_said(tiny, plan, monkeypatch):
    class Unknown(Scenes):
        def take(self, number):
            return replace(super().take(number), words=None)

    probe, subjects = FrozenParts(), Unknown(2)
    first = Case.of(tiny, subjects.take(0).image, subjects.take(0).prompt).word
    monkeypatch.setattr(tiny.tokenizer, "eos_id", first)
    _, found = examine(tiny, plan(probe, subjects=subjects))["frozen"]
    assert any("empty" in note for note in found.notes)
