"""Verdicts on maps: one that names what matters beats random sets, a random one does not, and nothing beats nothing."""

import numpy as np
import pytest

from emma_viz.errors import InputError
from emma_viz.evidence.attribution import attribute
from emma_viz.evidence.verdict import Verdict, controls_for, judge

COUNT, PLANTED = 200, np.arange(40, 60)


def planted(sets):
    """Only some tokens matter, each as much as the other."""
    return [float(np.isin(each, PLANTED).sum()) for each in sets]


@pytest.mark.parametrize("maps", [1, 2, 4])
def test_a_map_that_names_what_matters_beats_random_sets(maps):
    values = np.zeros(COUNT)
    values[PLANTED] = 1
    found = judge(values, planted, maps=maps)
    assert found.beats
    assert found.fall == len(PLANTED)
    assert len(found.random) == controls_for(maps) == 20 * maps - 1
    assert found.p == pytest.approx(0.05)
    assert found.said == f"beats {20 * maps - 1} random sets"


def test_random_maps_rarely_beat_and_where_nothing_matters_none_does():
    draw = np.random.default_rng(0)
    found = [judge(draw.normal(size=COUNT), planted, seed=index) for index in range(60)]
    assert sum(each.beats for each in found) <= 6
    nothing = judge(draw.normal(size=COUNT), lambda sets: [0.0] * len(sets))
    assert nothing.p == 1
    assert not nothing.beats
    assert nothing.said == "does not beat 19 random sets"
    alone = Verdict(fall=3.0, random=np.zeros(39), maps=1)
    assert alone.beats
    assert not Verdict(fall=3.0, random=np.zeros(39), maps=3).beats, "three maps need more sets"


def test_an_attribution_is_judged_by_its_own_runs(one, photos):
    found = attribute(one, photos[0], "What is it?", word=(50,), method="knockout", judged=2, batch_size=16)
    plain = attribute(one, photos[0], "What is it?", word=(50,), method="knockout")
    np.testing.assert_allclose(found.values, plain.values, atol=1e-6)
    assert plain.verdict is None
    assert found.verdict.maps == 2
    assert len(found.verdict.random) == 39
    # Of 16 tokens a tenth is two; taken together they cost about what they cost alone.
    highest = np.sort(found.values.ravel())[-2:]
    assert found.verdict.fall == pytest.approx(highest.sum(), rel=0.5, abs=1e-3)


def test_a_map_without_tokens_is_refused():
    with pytest.raises(InputError, match="tokens"):
        judge(np.zeros(0), planted)


@pytest.mark.parametrize("place", [0, 7])
def test_what_loses_no_number_is_not_judged(place):
    def broken(sets):
        return [float("nan") if number == place else 1.0 for number in range(len(sets))]

    assert judge(np.arange(COUNT, dtype=float), broken) is None
    with pytest.raises(InputError, match="finite"):
        Verdict(fall=float("inf"), random=np.zeros(19))
