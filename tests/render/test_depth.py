"""Where layers stand on the axis that models share: the same in figures and on pages."""

import dataclasses

import numpy as np
import pytest

from emma_viz.render import draw
from emma_viz.render.depth import RELATIVE, depth_of, is_relative
from emma_viz.render.web.data import retention_chart


def pair(make, *depths: int | None):
    """A case whose models have some numbers of blocks, and curves over different layers of them."""
    case = make.case()
    curves = (((-1, 0.9), (0, 0.8), (8, 0.5)), ((0, 0.9), (4, 0.7), (20, 0.6)))
    models = tuple(
        dataclasses.replace(model, n_layer=depth, retention=curve)
        for model, depth, curve in zip(case.models, depths, curves, strict=True)
    )
    return dataclasses.replace(case, models=models)


def drawn(make, case) -> list[list[float]]:
    figure = draw(dataclasses.replace(make.spec(), images=(case,)))
    (axes,) = (each for each in figure.axes if each.get_label().startswith("retention/"))
    low, high = axes.get_xlim()
    lines = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 3]
    assert all(low <= x <= high for line in lines for x in line)
    return [list(map(float, line)) for line in lines]


@pytest.mark.parametrize("depths", [(24, 64), (24, 24)])
def test_layers_stand_by_their_number_or_by_the_depth_of_the_whole_model(make, depths):
    case = pair(make, *depths)
    relative = depths[0] != depths[1]
    assert is_relative(case.models) == relative
    expected = [
        [layer / (depth - 1) if relative else layer for layer, _ in model.retention]
        for model, depth in zip(case.models, depths, strict=True)
    ]
    np.testing.assert_allclose(drawn(make, case), expected)
    chart = retention_chart(case)
    assert chart.relative == relative
    np.testing.assert_allclose([[x for x, _ in line.points] for line in chart.lines], expected)
    assert (RELATIVE in chart.draw(0)) == relative


def test_without_a_number_of_blocks_the_curve_says_how_deep_a_model_is(make):
    case = pair(make, None, None)
    assert is_relative(case.models)
    assert depth_of(case.models[0], 8, relative=True) == 1.0
