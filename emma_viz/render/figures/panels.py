"""The small pictures of a figure: an image, a decoded image, a map, a highlighted image, a colour bar."""

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import BoundaryNorm, ListedColormap, Normalize
from matplotlib.image import AxesImage, PcolorImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, MaxNLocator

from emma_viz.render import colours, words
from emma_viz.render.figures.sheet import Box, Sheet
from emma_viz.render.overlay import MISSING, fit_image, highlight, to_bytes
from emma_viz.render.spans import Extent, GridSpans
from emma_viz.render.spec import ImageCase, Limits

_LONGEST = 720
"""Pixels of the longer side of a photograph in a figure: what a printed panel resolves."""


def show_image(sheet: Sheet, box: Box, case: ImageCase) -> Axes:
    """The input as it was given, what no patch sees hatched lightly."""
    axes = sheet.axes(box, f"input/{case.title}")
    photo = fit_image(case.image, _LONGEST)
    axes.imshow(photo, extent=(0, 1, 1, 0), aspect="auto", interpolation="antialiased")
    return _frame(axes, case.spans, alpha=0.35)


def show_decoded(sheet: Sheet, box: Box, spans: GridSpans, decoded: np.ndarray, label: str) -> Axes:
    """A decoded image, in the true aspect of the input."""
    axes = sheet.axes(box, label)
    show_cells(axes, spans, to_bytes(decoded))
    return _frame(axes, spans)


def show_map(
    sheet: Sheet, box: Box, spans: GridSpans, values: np.ndarray, limits: Limits, colormap: str, label: str
) -> Axes:
    """A map, in the true aspect of the input."""
    axes = sheet.axes(box, label)
    # Shows through where a value is NaN.
    axes.set_facecolor("#{:02x}{:02x}{:02x}".format(*MISSING))
    painted = colours.paint(values, limits, colormap)
    show_cells(axes, spans, painted)
    return _frame(axes, spans)


def show_highlight(
    sheet: Sheet,
    box: Box,
    image: np.ndarray,
    spans: GridSpans,
    values: np.ndarray,
    limits: Limits,
    colormap: str,
    label: str,
) -> Axes:
    """The input with each patch tinted by its value."""
    axes = sheet.axes(box, label)
    photo = fit_image(image, _LONGEST)
    tinted = highlight(photo, values, limits, spans, colormap=colormap)
    axes.imshow(tinted, extent=(0, 1, 1, 0), aspect="auto", interpolation="antialiased")
    return _frame(axes, spans, alpha=0.5)


def show_bar(
    sheet: Sheet, box: Box, limits: Limits, colormap: str, text: str, *, beyond: bool, size: float = 6.5
) -> Axes:
    """A vertical colour bar with its words; pointed ends say that some values lie beyond it."""
    axes = sheet.axes(box, f"colour bar/{text}")
    low, high = limits
    if high > low:
        scale, ticks = ScalarMappable(Normalize(*limits), colormap), MaxNLocator(4, steps=[1, 2, 2.5, 5, 10])
    else:  # no extent: one colour up to the value, the other above, and nothing between
        ends = ListedColormap(colours.colour_table(colormap)[[0, -1]] / 255)
        scale, ticks = ScalarMappable(BoundaryNorm([low - 1, low, low + 1], 2), ends), FixedLocator([low])
    extend = "both" if beyond and high > low else "neither"
    bar = Colorbar(axes, scale, extend=extend, extendfrac=0.03, ticks=ticks)
    bar.outline.set(linewidth=0.4, edgecolor=colours.FAINT)
    axes.tick_params(labelsize=size * sheet.scale, length=2, width=0.4, pad=1.5)
    axes.tick_params(color=colours.FAINT, labelcolor=colours.SOFT)
    for tick in axes.get_yticklabels():
        tick.set_fontfamily(list(words.families()))
    lines = words.wrap(text, box.h, size, lines=2)
    for index, line in enumerate(lines):
        x = box.right + 0.36 + index * words.line_height(size)
        sheet.write(x, box.y + box.h / 2, line, size, colour=colours.SOFT, align="center", rotation=90.0)
    return axes


def show_weak(axes: Axes) -> Axes:
    """Dash the frame of a panel whose map does not beat its controls, dark on light, so that it is seen on every
    colour."""
    for width, colour, style in ((2.4, "white", "solid"), (1.2, "black", (0, (3, 2)))):
        edge = Rectangle((0, 0), 1, 1, fill=False, linewidth=width, linestyle=style)
        edge.set(edgecolor=colour, gid="weak", transform=axes.transAxes, zorder=5, clip_on=False)
        axes.add_patch(edge)
    return axes


def show_outline(drawn: Iterable[Axes], place: Extent | None) -> None:
    """Outline a place in those axes that show a picture, light on dark, so that it is seen on every colour."""
    if place is None:
        return
    left, top, right, bottom = place
    for axes in drawn:
        if axes.images:
            for width, colour in ((2.2, "black"), (1.0, "white")):
                edge = Rectangle((left, top), right - left, bottom - top, fill=False, linewidth=width)
                edge.set(edgecolor=colour, gid="kept")
                axes.add_patch(edge)


def show_cells(
    axes: Axes, spans: GridSpans, pixels: np.ndarray, size: tuple[int, int] = (1, 1), **given
) -> AxesImage:
    """Draw a picture of a grid where its cells lie; what lies between them stays as it is.

    Args:
        axes: where to draw.
        spans: where the cells lie.
        pixels: R·p × C·p values, or bytes of RGB or RGBA.
        size: width and height of the image on the axes.
        given: how values become colours, as of matplotlib's images.
    """
    width, height = size
    if spans.is_even:
        left, top, right, bottom = spans.extent
        place = (left * width, right * width, bottom * height, top * height)
        return axes.imshow(pixels, extent=place, aspect="auto", interpolation="nearest", **given)
    across, down = spans.laid_out(pixels.shape[0] // spans.grid[0])
    shown = pixels[down.source][:, across.source]
    seen = np.logical_and.outer(down.source >= 0, across.source >= 0)
    if shown.ndim == 2:
        shown = np.ma.masked_array(shown, ~seen)
    else:
        opacity = shown[..., 3] if shown.shape[2] == 4 else 255
        shown = np.dstack([shown[..., :3], np.where(seen, opacity, 0).astype(np.uint8)])
    drawn = PcolorImage(axes, across.edges * width, down.edges * height, shown, **given)
    return axes.add_image(drawn)


def _frame(axes: Axes, spans: GridSpans, alpha: float = 1.0) -> Axes:
    axes.set_xlim(0, 1)
    axes.set_ylim(1, 0)
    for x, y, w, h in spans.unseen():
        margin = Rectangle((x, y), w, h, hatch="//////", linewidth=0, alpha=alpha)
        margin.set(facecolor=colours.UNSEEN, edgecolor=colours.UNSEEN_HATCH)
        axes.add_patch(margin)
    return axes
