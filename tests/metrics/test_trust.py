"""What is asked of maps: definitions by hand and by others' code, planted truths and planted nothings."""

import numpy as np
import pytest
from scipy.stats import false_discovery_control, spearmanr

from emma_viz.metrics.intervals import ratio
from emma_viz.metrics.trust import (
    bootstrap_p,
    centre_prior,
    energy_inside,
    histogram_entropy,
    holm,
    overlap,
    points_at,
    rise,
    spearman,
    structural_likeness,
)


def test_entropy_of_a_map_is_that_of_its_histogram():
    draw = np.random.default_rng(0)
    values = draw.normal(size=(8, 8))
    counts, _ = np.histogram(values, bins=100)
    shares = counts[counts > 0] / counts.sum()
    assert histogram_entropy(values) == pytest.approx(-(shares * np.log(shares)).sum())
    assert histogram_entropy(np.ones((4, 4))) == 0
    assert np.isnan(rise(0.0, 1.0))
    assert rise(2.0, 3.0) == 0.5
    spike = np.zeros(64)
    spike[3] = 1
    assert rise(histogram_entropy(spike), histogram_entropy(values)) > 0


def test_rank_correlation_is_that_of_scipy_and_undefined_for_constants():
    draw = np.random.default_rng(1)
    first, second = draw.integers(0, 4, 30).astype(float), draw.normal(size=30)
    assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic)
    assert np.isnan(spearman(np.ones(30), second))
    assert overlap(second, second) == 1
    assert overlap(second, -second) == 0


def test_likeness_is_of_signed_maps_on_one_scale():
    draw = np.random.default_rng(2)
    first, other = draw.normal(size=(2, 24, 24))
    assert structural_likeness(first, first) == pytest.approx(1)
    assert abs(structural_likeness(first, other)) < 0.1
    assert structural_likeness(first, -first) < -0.5
    assert structural_likeness(first, 0.1 * first) < 0.7, "a map that was scaled apart would be 1"
    assert structural_likeness(first[:4, :4], first[:4, :4]) == pytest.approx(1)
    assert np.isnan(structural_likeness(first[:2], other[:2]))
    assert np.isnan(structural_likeness(np.ones((8, 8)), np.ones((8, 8))))


def test_a_map_points_at_a_mask_beside_its_highest_cell():
    mask = np.zeros((6, 6), bool)
    mask[1, 1] = True
    values = np.zeros((6, 6))
    values[2, 2] = 1
    assert points_at(values, mask) == 1
    values[5, 5] = 2
    assert points_at(values, mask) == 0
    assert np.isnan(points_at(values, np.zeros((6, 6), bool)))
    values[1, 1], values[0, 0] = 1, -9
    assert energy_inside(values, mask) == 0.25
    assert np.isnan(energy_inside(-np.ones((6, 6)), mask))
    assert np.unravel_index(centre_prior((5, 7)).argmax(), (5, 7)) == (2, 3)


def test_what_was_planted_is_sure_and_nothing_is_not():
    draw = np.random.default_rng(2)
    images = np.ones(60)
    control = {"sum": draw.normal(size=60), "count": images}
    better = {"sum": control["sum"] + 1 + draw.normal(size=60), "count": images}
    statistic = ratio("sum", "count")
    assert bootstrap_p(better, control, statistic) < 0.01
    assert bootstrap_p(better, control, statistic, higher=False) > 0.9
    assert bootstrap_p(control, control, statistic) == 1
    null = [
        bootstrap_p({"sum": draw.normal(size=60), "count": images}, control | {"sum": 0 * images}, statistic)
        for _ in range(100)
    ]
    assert np.mean(np.array(null) < 0.05) < 0.15


@pytest.mark.parametrize("images", [1, 2, 3, 6])
def test_few_images_prove_little_however_much_they_agree(images):
    ones = np.ones(images)
    found = bootstrap_p({"sum": ones, "count": ones}, {"sum": 0 * ones, "count": ones}, ratio("sum", "count"))
    assert found == (1 if images == 1 else 0.5**images)


def test_a_control_that_two_images_know_proves_as_little_as_a_number_that_they_know():
    draw, known = np.random.default_rng(4), np.arange(16.0) < 2
    many = {"sum": draw.normal(size=16), "count": np.ones(16)}
    few = {"sum": 9 * known, "count": known}
    statistic = ratio("sum", "count")
    assert bootstrap_p(few, many, statistic) == bootstrap_p(many, few, statistic, higher=False) >= 0.25
    zeros = {"sum": np.zeros(16)}
    assert bootstrap_p({"sum": 9 + many["sum"]}, zeros, ratio("sum")) < 0.01, "a control may be 0 everywhere"


def test_holm_is_holm():
    p = np.array([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(holm(p), [0.03, 0.06, 0.06, 0.02])
    draw = np.random.default_rng(3).random(20)
    assert (holm(draw) >= draw).all()
    assert (holm(draw) >= false_discovery_control(draw) - 1e-12).all()
