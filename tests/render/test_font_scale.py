"""Larger and smaller type on the same width of paper."""

import dataclasses

import pytest

from emma_viz.errors import InputError
from emma_viz.render import draw
from emma_viz.render.figures.figure import height
from emma_viz.render.sidecar import from_json, to_json


def sizes(figure):
    """The font sizes of a figure, each once, its axes' included."""
    own = [text.get_fontsize() for text in figure.texts]
    ticks = [
        tick.get_fontsize() for axes in figure.axes for tick in axes.get_yticklabels() if tick.get_text()
    ]
    return {round(size, 3) for size in own}, {round(size, 3) for size in ticks}


def beyond(figure):
    """The texts that leave the paper."""
    renderer, paper = figure.canvas.get_renderer(), figure.bbox
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in figure.texts]
    return [text for text, box in boxes if box.x0 < paper.x0 - 2 or box.x1 > paper.x1 + 2]


@pytest.mark.parametrize("style", ["default", "paper"])
@pytest.mark.parametrize("scale", [0.6, 1.15, 1.3])
def test_type_is_larger_on_the_same_width_and_stays_on_the_paper(make, style, scale):
    spec = dataclasses.replace(make.spec(), style=style)
    plain, scaled = draw(spec), draw(dataclasses.replace(spec, font_scale=scale))
    assert scaled.get_figwidth() == pytest.approx(plain.get_figwidth())
    for one, other in zip(sizes(plain), sizes(scaled), strict=True):
        assert sorted(other) == pytest.approx([size * scale for size in sorted(one)], abs=0.002)
    assert beyond(scaled) == beyond(plain) == []
    assert scaled.get_figheight() == pytest.approx(height(dataclasses.replace(spec, font_scale=scale)))


def test_a_recipe_keeps_it_and_what_cannot_be_read_is_refused(make):
    spec = dataclasses.replace(make.spec(), font_scale=1.2)
    assert from_json(to_json(spec)).font_scale == 1.2
    for wrong in (0.5, 1.4, float("nan")):
        with pytest.raises(InputError, match=r"font_scale of 0\.6 to 1\.3"):
            dataclasses.replace(spec, font_scale=wrong)
