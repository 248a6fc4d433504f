"""Linear probes find a class that was planted at one layer, and none in a model of random weights."""

import numpy as np
import pytest

from emma_viz.metrics.classify import out_of_fold
from probes.findings import find
from probes.linear import THINGS, Linear
from probes.protocol import Gathered, Result


@pytest.fixture(scope="module")
def planted(tiny):
    """60 images of two things; the class stands at layer 1 and later, and in nothing else."""
    draw = np.random.default_rng(0)
    shape = (60, THINGS)
    classes = np.full(shape, np.nan)
    classes[:, :2] = draw.integers(0, 3, (60, 2))
    known = np.isfinite(classes)
    columns = {f"class_{task}": classes for task in ("kind", "colour", "row")}
    for name in ("layer-1", "layer0", "layer1", "layer2", "pixels", "tower", "place", "random"):
        values = np.full((*shape, 6), np.nan)
        values[known] = draw.normal(size=(int(known.sum()), 6))
        if name in ("layer1", "layer2"):
            values[known, :3] += 4 * np.eye(3)[classes[known].astype(int)]
        columns[name] = values
    gathered = Gathered(
        model=tiny.info,
        layers=(-1, 0, 1, 2),
        columns=columns,
        sums={},
        images=60,
        groups=1,
        names=(),
        notes=(),
    )
    return Result(gathered=gathered, findings=find(Linear().measures(gathered)))


def test_a_class_is_found_where_it_was_planted_and_nowhere_else(planted):
    curve = {each.measure.layer: each for each in planted.curve("linear.kind")}
    assert [layer for layer, each in curve.items() if each.beats] == [1, 2]
    assert curve[1].number.value > 0.9
    for name in ("pixels", "tower", "place", "random"):
        assert not planted.one(f"linear.kind_{name}").beats
    assert planted.one("linear.kind_logistic").beats
    assert "layer 1" in Linear().summary([planted]) or "layer 2" in Linear().summary([planted])


def test_what_is_seen_of_scenes_is_what_the_states_hold(tiny, plan, scenes):
    from probes.examination import examine

    probe = Linear()
    _, gathered = examine(tiny, plan(probe))["linear"]
    columns = gathered.columns
    known = np.isfinite(columns["class_kind"])
    assert known.sum(axis=1).tolist() == [
        min(len(scenes.take(index).kinds), THINGS) for index in range(len(known))
    ]
    for name in ("layer-1", "layer0", "pixels", "tower", "random"):
        assert np.isfinite(columns[name][known]).all(), name
        assert np.isnan(columns[name][~known]).all(), name
    findings = find(probe.measures(gathered))
    assert {each.measure.name for each in findings} >= {"linear.kind", "linear.colour", "linear.row"}
    rows, things = np.nonzero(known)
    place = columns["place"][rows, things]
    upper = (place[:, 0] < 0.5).astype(int)
    assert (out_of_fold(place, upper, rows) == upper).mean() > 0.8
    assert Linear().plots([Result(gathered=gathered, findings=findings)])
