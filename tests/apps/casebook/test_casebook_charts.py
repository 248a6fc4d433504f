"""The plots of the casebook: strangers' names as they stand, and how sure a bar is."""

import pytest
from scipy.stats import binomtest

from apps.casebook import charts

ATTACK = '<a href="x">$b$</a>'


@pytest.fixture
def models(monkeypatch):
    names = [f"{ATTACK} {number}" for number in range(8)]
    light = charts._COLOURS["light"]
    monkeypatch.setattr(charts, "model_colours", lambda models: dict(zip(models, light, strict=True)))
    return names


def test_bars_of_categories_have_wilsons_interval_and_no_name_acts(models):
    right = [True] * 9 + [False]
    figure = charts.right_by_category({(ATTACK, models[0]): right, ("b", models[1]): [True]}, models)
    bar = figure.data[0]
    ends = binomtest(9, 10).proportion_ci(method="wilson")
    assert bar.y[bar.x.index("b")] is None
    at = 1 - bar.x.index("b")
    assert bar.y[at] + bar.error_y.array[at] == pytest.approx(ends.high)
    assert bar.y[at] - bar.error_y.arrayminus[at] == pytest.approx(ends.low)
    assert len({each.marker.color for each in figure.data}) == 8
    assert "<a" not in figure.to_json().replace("\\u003c", "<")


def test_no_name_acts_in_the_others(models):
    counts = {(ATTACK, models[0]): (1, 2)}
    confusion = charts.confusion_by_object(counts, counts, [ATTACK], models)
    curve = charts.calibration({models[0]: [(0.2, 0.5, 3)]}, models)
    for figure in (confusion, curve, charts.dressed(curve, ATTACK)):
        assert "<a" not in figure.to_json().replace("\\u003c", "<")
