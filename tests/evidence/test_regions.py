"""Places that a region is compared with."""

import numpy as np
import pytest

from emma_viz.evidence.regions import places_alike


@pytest.mark.parametrize(
    ("rows", "columns", "count"),
    [
        (slice(2, 4), slice(1, 3), 19),
        (slice(1, 2), slice(None), 7),  # a row: the seven others
        (slice(None), slice(0, 2), 5),  # two columns: those that do not meet it
    ],
)
def test_other_places_are_others_and_no_two_the_same(rows, columns, count):
    place = np.zeros((8, 8), bool)
    place[rows, columns] = True
    found = places_alike(place, count=19, seed="a")
    assert len(found) == count
    assert len({each.tobytes() for each in (place, *found)}) == count + 1
    assert {each.sum() for each in found} == {place.sum()}
