"""Groups of tokens taken away, by Captum, against the same runs made by hand."""

from itertools import permutations

import numpy as np
import pytest

from emma_viz.errors import InputError
from emma_viz.evidence.case import Case
from emma_viz.evidence.superpatches import ablate, occlude, shapley, superpatches

PROMPT = "What is it?"


@pytest.fixture(scope="module")
def case(model, photos):
    return Case.of(model, photos[0], PROMPT)


@pytest.fixture(scope="module")
def mean(model, photos):
    return Case.of(model, photos[1], PROMPT).tokens[0].mean(dim=0)


def falls(case, mean, sets):
    score, *found = case.scores([case.tokens[0], *(case.with_tokens(each, mean) for each in sets)])
    return score - np.array(found)


def test_a_group_costs_what_its_run_says(case, mean):
    groups = superpatches(case.vlm.grid, 2)
    assert np.bincount(groups.ravel()).tolist() == [4] * 4
    expected = falls(case, mean, [np.flatnonzero(groups.ravel() == each).tolist() for each in range(4)])
    np.testing.assert_allclose(ablate(case, mean, groups, batch_size=3), expected, atol=1e-6)
    assert np.ptp(expected) > 1e-5, "or the test would compare nothing with nothing"


def test_a_window_costs_what_its_runs_say(case, mean):
    found = occlude(case, mean, (4, 4), side=3, stride=1)
    starts = [(row, column) for row in range(2) for column in range(2)]
    windows = [[4 * (r + i) + c + j for i in range(3) for j in range(3)] for r, c in starts]
    alone = falls(case, mean, windows)
    expected = [
        np.mean([fall for fall, w in zip(alone, windows, strict=True) if at in w]) for at in range(16)
    ]
    np.testing.assert_allclose(found.ravel(), expected, atol=1e-6)


def test_shapley_values_sum_to_the_difference_and_are_the_mean_over_all_orders(case, mean):
    groups = superpatches(case.vlm.grid, 2)[:, :] // 2  # two groups: upper and lower half
    found = shapley(case, mean, groups, pairs=2)
    upper, lower, both = falls(case, mean, [range(8), range(8, 16), range(16)])
    # Of two groups an order and its reverse are all orders.
    expected = [np.mean([upper, both - lower]), np.mean([lower, both - upper])]
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    np.testing.assert_allclose(found.errors, 0, atol=1e-7)
    four = shapley(case, mean, superpatches(case.vlm.grid, 2), pairs=3, seed=1)
    assert abs(four.gap) < 1e-6
    assert four.score - four.baseline == pytest.approx(both, abs=1e-6)
    assert four.orders == 6
    assert (four.errors > 0).any()


def test_more_orders_come_nearer_to_the_mean_over_all(one, photos):
    case = Case.of(one, photos[0], PROMPT)
    mean = Case.of(one, photos[1], PROMPT).tokens[0].mean(dim=0)
    groups = superpatches(case.vlm.grid, 2)
    sets = [[at for at in range(16) if not 1 << groups.ravel()[at] & kept] for kept in range(16)]
    scores = np.array(case.scores([case.with_tokens(each, mean) for each in sets]))
    whole = np.zeros(4)
    for order in permutations(range(4)):
        kept = 0
        for each in order:
            whole[each] += (scores[kept | 1 << each] - scores[kept]) / 24
            kept |= 1 << each
    found = shapley(case, mean, groups, pairs=8, seed=3)
    assert (np.abs(found.values - whole) < 4 * found.errors + 1e-6).all()


def test_groups_and_windows_that_make_no_sense_are_refused(case, mean):
    for groups in (np.zeros((2, 2), int), np.full((4, 4), 1), np.arange(16).reshape(4, 4) * 2):
        with pytest.raises(InputError, match="group"):
            ablate(case, mean, groups)
    with pytest.raises(InputError, match="stride"):
        occlude(case, mean, (4, 4), side=5)
    with pytest.raises(InputError, match="pairs"):
        shapley(case, mean, superpatches((4, 4), 2), pairs=1)
    with pytest.raises(InputError, match="part"):
        superpatches((4, 4), 0)
