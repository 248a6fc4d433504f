"""Drawing a figure from its spec."""

from matplotlib.figure import Figure

from emma_viz.render.default_style import draw_default
from emma_viz.render.paper_style import draw_paper
from emma_viz.render.sheet import settings
from emma_viz.render.spec import FigureSpec

_STYLES = {"default": draw_default, "paper": draw_paper}


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
