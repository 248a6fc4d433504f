"""Bootstrap, seeds and claims by their properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from emma_viz.errors import InputError
from emma_viz.metrics.intervals import (
    NONE,
    claim,
    difference,
    draws,
    estimate,
    mean_over,
    ratio,
    share,
    student,
    wilson,
)

MEAN = ratio("x")


def columns(values):
    return {"x": np.asarray(values, np.float64)}


def noise(seed, shift=0.0, size=200):
    return np.random.default_rng(seed).normal(shift, 1.0, size)


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation():
    values = noise(0, 3.0, 400)
    found = estimate([columns(values)], MEAN)
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)
    assert found.seed_low is None


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_a_known_difference_is_claimed_and_its_opposite_too(seed):
    base = noise(seed)
    a, b = columns(base + 1.0 + 0.1 * noise(seed + 1)), columns(base)
    assert claim(difference([a], [b], MEAN), more="more", less="less") == "more"
    assert claim(difference([b], [a], MEAN), more="more", less="less") == "less"


def test_pairing_finds_a_small_difference_in_large_noise():
    base = 10 * noise(3)
    found = difference([columns(base + 0.2 + 0.1 * noise(4))], [columns(base)], MEAN)
    assert found.sign == 1
    assert estimate([columns(base + 0.2)], MEAN).sign == 0


def test_no_difference_is_rarely_claimed():
    """Of 100 pairs without a difference, about 5 intervals of 95 % exclude 0."""
    claimed = sum(
        difference([columns(noise(2 * k))], [columns(noise(2 * k + 1))], MEAN).sign != 0 for k in range(100)
    )
    assert claimed <= 12
    same = columns(noise(7))
    assert claim(difference([same], [same], MEAN), more="more", less="less") == NONE


def test_seeds_that_disagree_support_no_claim_and_seeds_that_agree_do():
    base = noise(5)

    def gap(*shifts):
        return difference([columns(base + shift) for shift in shifts], [columns(base)] * len(shifts), MEAN)

    assert gap(1.0).sign == 1
    assert gap(1.0, 0.9, 1.1).sign == 1
    apart = gap(1.0, -0.2, 0.4)
    assert apart.sign == 0
    assert apart.low > 0, "images alone would have claimed it"
    assert apart.seeds == pytest.approx((1.0, -0.2, 0.4))


def test_the_interval_over_seeds_is_student_t():
    low, high = student(np.array([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 4.30265273 / 3**0.5, 2 + 4.30265273 / 3**0.5))
    assert student(np.array([1.0])) == (None, None)


def test_few_images_have_student_t_over_their_means_of_the_seeds():
    found = mean_over(np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]))
    assert found.value == 3.0
    assert (found.low, found.high) == pytest.approx((3 - 4.30265273 / 3**0.5, 3 + 4.30265273 / 3**0.5))
    assert found.seeds == (2.0, 4.0)
    assert (found.seed_low, found.seed_high) == pytest.approx((3 - 12.7062047, 3 + 12.7062047))
    assert found.sign == 0
    assert mean_over(np.array([[1.0, 1.1, 1.2]])).sign == 1


@pytest.mark.parametrize(("images", "truth"), [(20, 0.9), (30, 0.98), (60, 0.5)])
def test_wilsons_interval_of_a_share_holds_the_truth_where_a_bootstrap_does_not(images, truth):
    random, asked = np.random.default_rng(4), np.ones(images)
    held = {share: 0, _bootstrap: 0}
    for _ in range(200):
        right = (random.random(images) < truth).astype(float)
        for how in held:
            found = how({"right": right, "asked": asked}, ratio("right", "asked"))
            held[how] += found.low <= truth <= found.high
    assert held[share] >= 185
    assert truth < 0.95 or held[_bootstrap] < 150


def _bootstrap(columns, statistic):
    return estimate([columns], statistic)


def test_a_share_is_that_of_wilson_and_clusters_count_as_one():
    statistic = ratio("right", "asked")
    right = np.array([1.0, 0, 1, 1, 1, 0, 1, 1, 1, 1])
    found = share({"right": right, "asked": np.ones(10)}, statistic)
    exact = binomtest(8, 10).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=0.04)
    clustered = share({"right": 6 * right, "asked": 6 * np.ones(10)}, statistic)
    assert (clustered.low, clustered.high) == pytest.approx((found.low, found.high))
    sure = share({"right": np.ones(30), "asked": np.ones(30)}, statistic)
    assert (sure.low, sure.high) == pytest.approx((binomtest(30, 30).proportion_ci(method="wilson").low, 1))
    one = share({"right": np.ones(1), "asked": 6 * np.ones(1)}, statistic)
    assert np.isnan([one.low, one.high]).all()
    assert one.sign == 0


@pytest.mark.parametrize(("images", "claimed"), [(500, 3), (40, 12)])
def test_a_share_that_no_draw_varies_rests_on_the_images_that_have_something(images, claimed):
    asked = (np.arange(images) < claimed).astype(float)
    found = share({"hit": asked, "claimed": asked}, ratio("hit", "claimed"))
    low = binomtest(claimed, claimed).proportion_ci(method="wilson").low
    assert (found.value, found.low, found.high) == pytest.approx((1, low, 1))
    assert found.images == images
    alone = np.eye(images)[0]
    one = share({"hit": alone, "claimed": alone}, ratio("hit", "claimed"))
    assert one.value == 1
    assert np.isnan([one.low, one.high]).all()


def test_what_one_image_of_many_is_known_of_has_no_interval():
    alone, two = np.eye(9)[0], np.arange(9) < 2
    part, whole = 0.25 * alone, alone
    found = estimate([{"part": part, "whole": whole}], ratio("part", "whole"))
    assert found.value == 0.25
    assert np.isnan([found.low, found.high]).all()
    gap = difference(
        [{"part": part, "whole": whole}], [{"part": 0.5 * two, "whole": two}], ratio("part", "whole")
    )
    assert np.isnan([gap.low, gap.high]).all()
    known = estimate([{"part": 0.5 * two, "whole": two}], ratio("part", "whole"))
    assert (known.low, known.high) == (0.5, 0.5)
    nothing = estimate([columns(np.zeros(9))], MEAN)
    assert (nothing.low, nothing.high) == (0, 0), "known to be nothing in every image"


@pytest.mark.parametrize("parts", [3, 7])
def test_what_rounding_leaves_of_no_variance_is_none(parts):
    columns = {"right": np.ones(10), "asked": np.full(10, float(parts))}
    found = share(columns, ratio("right", "asked"))
    assert (found.low, found.high) == pytest.approx(wilson(1 / parts, 10))


def test_draws_are_fixed_and_each_has_as_many_images():
    assert (draws(13).sum(axis=1) == 13).all()
    assert draws(13).std() > 0.5


def test_a_ratio_weighs_images_by_what_they_hold():
    asked = {"right": np.array([1.0, 0.0]), "asked": np.array([1.0, 3.0])}
    assert estimate([asked], ratio("right", "asked")).value == 0.25
    assert (
        estimate([{"right": np.zeros(2), "asked": np.zeros(2)}], ratio("right", "asked")).to_json()["value"]
        is None
    )


def test_numbers_of_different_images_are_not_compared():
    with pytest.raises(InputError, match="same images"):
        difference([columns(noise(0, size=5))], [columns(noise(0, size=6))], MEAN)
