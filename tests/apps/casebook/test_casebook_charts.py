"""The plots of the casebook: strangers' names as they stand, and how sure a bar is."""

import numpy as np
import pytest

from apps.casebook import charts
from emma_viz.metrics.verdicts import CalibrationBin, ShareOfRows

ATTACK = '<a href="x">$b$</a>'


@pytest.fixture
def models(monkeypatch):
    names = [f"{ATTACK} {number}" for number in range(8)]
    light = charts._COLOURS["light"]
    monkeypatch.setattr(charts, "model_colours", lambda models: dict(zip(models, light, strict=True)))
    return names


def test_bars_of_categories_reach_to_their_intervals_and_no_name_acts(models):
    known = ShareOfRows(value=0.9, low=0.6, high=0.98, rows=10)
    alone = ShareOfRows(value=1.0, low=np.nan, high=np.nan, rows=2)
    figure = charts.right_by_category({(ATTACK, models[0]): known, ("b", models[1]): alone}, models)
    first, second = figure.data[:2]
    at = 1 - first.x.index("b")
    assert (first.y[at], first.y[1 - at]) == (0.9, None)
    assert first.error_y.array[at] == pytest.approx(0.08)
    assert first.error_y.arrayminus[at] == pytest.approx(0.3)
    assert first.error_y.array[1 - at] is None
    assert second.error_y.array == (None, None), "one image has no interval"
    assert first.customdata[at] == "10 [0.600, 0.980]"
    assert len({each.marker.color for each in figure.data}) == 8
    assert "<a" not in figure.to_json().replace("\\u003c", "<")


def test_points_of_the_calibration_have_whiskers(models):
    share = ShareOfRows(value=0.5, low=0.2, high=0.9, rows=3)
    figure = charts.calibration({models[0]: [CalibrationBin(leaning=0.2, share=share)]}, models)
    points = figure.data[1]
    assert (points.x, points.y) == ((0.2,), (0.5,))
    assert points.error_y.array == pytest.approx((0.4,))
    assert points.error_y.arrayminus == pytest.approx((0.3,))


def test_no_name_acts_in_the_others(models):
    counts = {(ATTACK, models[0]): (1, 2)}
    confusion = charts.confusion_by_object(counts, counts, [ATTACK], models)
    share = ShareOfRows(value=0.5, low=0.2, high=0.9, rows=3)
    curve = charts.calibration({models[0]: [CalibrationBin(leaning=0.2, share=share)]}, models)
    for figure in (confusion, curve, charts.dressed(curve, ATTACK)):
        assert "<a" not in figure.to_json().replace("\\u003c", "<")
