"""Maps against masks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emma_viz.data.geometry import Geometry
from emma_viz.errors import InputError
from emma_viz.metrics import auroc, mask_on_grid


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=20))
def test_auroc_counts_the_pairs_that_are_in_order(cells):
    values, inside = np.array([value for value, _ in cells], float), np.array([flag for _, flag in cells])
    pairs = [(a > b) + 0.5 * (a == b) for a in values[inside] for b in values[~inside]]
    expected = np.mean(pairs) if pairs else math.nan
    np.testing.assert_allclose(auroc(values, inside), expected)


def test_auroc_leaves_out_what_is_not_finite():
    values = np.array([[3.0, np.nan], [1.0, 2.0]])
    assert auroc(values, np.array([[True, True], [False, False]])) == 1
    assert math.isnan(auroc(values, np.array([[False, True], [False, False]])))


def test_a_mask_lands_on_the_patches_that_it_covers():
    place = Geometry(image_size=(40, 20), strategy="resize-naive", size=20, patch=5)
    mask = np.zeros((20, 40), bool)
    mask[5:10, 10:25] = True  # row 1, column 1 whole and the left half of column 2
    share = mask_on_grid(mask, place)
    expected = np.zeros((4, 4))
    expected[1, 1], expected[1, 2] = 1, 0.5
    np.testing.assert_allclose(share, expected)


def test_patches_in_the_padding_have_no_share():
    place = Geometry(image_size=(40, 20), strategy="letterbox", size=20, patch=5)
    share = mask_on_grid(np.ones((20, 40), bool), place)
    assert np.isnan(share[0]).all()
    assert np.isnan(share[3]).all()
    assert (share[1:3] == 1).all()
    assert math.isnan(auroc(share, share > 0.5))


def test_a_mask_of_another_size_is_refused():
    place = Geometry(image_size=(40, 20), strategy="resize-naive", size=20, patch=5)
    with pytest.raises(InputError, match="20×40"):
        mask_on_grid(np.zeros((40, 20), bool), place)
