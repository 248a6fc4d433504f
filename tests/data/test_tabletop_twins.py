"""Twins: the same scene with and without one object."""

from itertools import islice

import numpy as np

from emma_viz.data.tabletop import twins


def test_twins_differ_where_the_object_and_its_shadow_are():
    for pair in islice(twins("test"), 12):
        drawn, without = pair.draw()
        differs = (drawn.image != without.image).any(axis=-1)
        there = drawn.mask == pair.number + 1
        assert there.any()
        assert differs[there].mean() > 0.5
        thing = pair.scene.things[pair.number]
        rows, columns = np.nonzero(differs)
        assert np.hypot(rows - thing.y, columns - thing.x).max() < 1.2 * thing.size
        assert pair.without.count(pair.kind) == 0
        assert (pair.question.answer, pair.kind in pair.question.question) == ("Yes.", True)
