"""Drawing a figure from its spec."""

import itertools
from dataclasses import replace
from math import ceil

from matplotlib.figure import Figure

from emma_viz.render.figures.default_style import default_height, draw_default
from emma_viz.render.figures.paper_style import draw_paper, paper_height
from emma_viz.render.figures.sheet import settings
from emma_viz.render.spec import FigureSpec

_STYLES = {"default": draw_default, "paper": draw_paper}
_HEIGHTS = {"default": default_height, "paper": paper_height}


def draw(spec: FigureSpec) -> Figure:
    """Draw a figure.

    Args:
        spec: what to draw; the same spec gives the same picture.

    Returns:
        A matplotlib figure with an Agg canvas, in inches as it is meant to be printed. It is no part of
        pyplot's state: nothing needs closing.
    """
    with settings():
        return _STYLES[spec.style](spec)


def pages(spec: FigureSpec, tallest: float) -> tuple[FigureSpec, ...]:
    """A figure as several, each of some of its images in order, where it is too tall for one.

    Args:
        spec: the figure.
        tallest: height of a page, inches. A page of one image may be taller.

    Returns:
        As few as will do, with about as many images on each; the figure itself where it fits.
    """
    count, images = 1, spec.images
    while True:
        edges = [round(page * len(images) / count) for page in range(count + 1)]
        parts = tuple(replace(spec, images=images[start:end]) for start, end in itertools.pairwise(edges))
        heights = [height(part) for part in parts]
        if max(heights) <= tallest or count == len(images):
            return parts if count > 1 else (spec,)
        count = min(max(count + 1, ceil(sum(heights) / tallest)), len(images))


def height(spec: FigureSpec) -> float:
    """How tall a figure is drawn, inches; nothing is drawn."""
    with settings():
        return _HEIGHTS[spec.style](spec) * spec.font_scale
