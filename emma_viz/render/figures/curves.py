"""The retention plot: how much of the picture each layer still holds, per model."""

import itertools
import math

from matplotlib.ticker import MaxNLocator

from emma_viz.render import colours, words
from emma_viz.render.depth import RELATIVE, depth_of, is_relative
from emma_viz.render.figures.sheet import Box, Sheet
from emma_viz.render.spec import ImageCase

FLOOR = -0.5
"""R² below this are drawn at the edge of the plot, as open markers."""
_SIZE = 6.5


def show_retention(sheet: Sheet, box: Box, case: ImageCase) -> None:
    """R² of the decoded pixels by layer: one line a model, its name at the end, the shown layers marked."""
    curves = [[(layer, r2) for layer, r2 in model.retention if math.isfinite(r2)] for model in case.models]
    if not any(curves):
        return
    names = [words.clean(model.name) for model in case.models]
    room = min(max(words.width(name, _SIZE) for name in names) + 0.12, 0.46 * box.w)
    plot = Box(box.x + 0.3, box.y + 0.04, box.w - 0.3 - room, box.h - 0.04 - 0.3)
    axes = sheet.axes(plot, f"retention/{case.title}")
    relative = is_relative(case.models)
    ends, lowest_place = [], 0.0
    for index, (model, curve) in enumerate(zip(case.models, curves, strict=True)):
        if curve:
            points = [(depth_of(model, layer, relative=relative), r2) for layer, r2 in curve]
            marked = {depth_of(model, layer, relative=relative) for layer in model.layers}
            lowest_place = min(lowest_place, *(place for place, _ in points))
            ends.append((index, _line(axes, index, points, marked)))
    lowest = min(r2 for curve in curves for _, r2 in curve)
    bottom = max(FLOOR, lowest - 0.08) if lowest < 0 else 0.0
    axes.set_ylim(bottom, 1.0)
    _dress(axes, relative, curves, lowest_place, _SIZE * sheet.scale)
    heights = [(index, plot.y + plot.h * (1 - (y - bottom) / (1 - bottom))) for index, y in ends]
    shown = words.shorten_apart(names, lambda name: words.shorten(name, room - 0.08, _SIZE))
    for index, top in _spread(heights, plot):
        sheet.write(plot.right + 0.07, top, shown[index], _SIZE, colour=colours.MODELS[index])
    caption = RELATIVE if relative else "layer"
    sheet.write(plot.x + plot.w / 2, plot.bottom + 0.19, caption, _SIZE, colour=colours.SOFT, align="center")


def _line(axes, index: int, curve: list[tuple[float, float]], shown: set[float]) -> float:
    """Draw one model's line and markers; returns the height of its right end."""
    colour, marker = colours.MODELS[index], colours.MARKERS[index]
    layers = [layer for layer, _ in curve]
    heights = [max(r2, FLOOR) for _, r2 in curve]
    axes.plot(layers, heights, color=colour, linewidth=1.1, zorder=3, clip_on=False)
    for layer, r2 in curve:
        if layer in shown or r2 < FLOOR:
            axes.plot(
                [layer],
                [max(r2, FLOOR)],
                marker=marker,
                markersize=3.6,
                markerfacecolor=colour if r2 >= FLOOR else "white",
                markeredgecolor="white" if r2 >= FLOOR else colour,
                markeredgewidth=0.5,
                linestyle="none",
                zorder=4,
                clip_on=False,
            )
    return heights[-1]


def _dress(axes, relative: bool, curves, lowest: float, size: float) -> None:
    ticks = [tick for tick in (FLOOR, 0, 0.5, 1) if tick >= axes.get_ylim()[0]]
    below = any(r2 < FLOOR for curve in curves for _, r2 in curve)
    axes.set_yticks(
        ticks, [f"{'≤ ' if below and tick == FLOOR else ''}{tick:.1f}".replace("-", "−") for tick in ticks]
    )
    axes.grid(axis="y", color=colours.HAIR, linewidth=0.4)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if not relative:
        layers = sorted({layer for curve in curves for layer, _ in curve})
        axes.set_xlim(layers[0] - 0.02 * len(layers), layers[-1] + 0.02 * len(layers))
        ticks = [int(t) for t in MaxNLocator(6, integer=True).tick_values(max(layers[0], 0), layers[-1])]
        ticks = [tick for tick in ticks if 0 <= tick <= layers[-1]]
        labels = [str(tick) for tick in ticks]
        if layers[0] < 0:
            # Beside "emb" there is no room for the number of a layer close to it.
            far = [tick for tick in ticks if (tick + 1) / (layers[-1] + 1) > 0.2]
            ticks, labels = [-1, *far], ["emb", *map(str, far)]
        axes.set_xticks(ticks, labels)
    else:
        axes.set_xlim(lowest - 0.03, 1.03)
        axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    axes.tick_params(labelsize=size, length=2, width=0.4, color=colours.FAINT, labelcolor=colours.SOFT, pad=2)
    for tick in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        tick.set_fontfamily(list(words.families()))


def _spread(ends: list[tuple[int, float]], plot: Box) -> list[tuple[int, float]]:
    """Tops of the names beside the lines' ends, moved apart until none overlap, inside the plot."""
    step = _SIZE * 1.15 / 72
    placed: list[list[float]] = [[index, y - step / 2] for index, y in sorted(ends, key=lambda end: end[1])]
    for before, after in itertools.pairwise(placed):
        after[1] = max(after[1], before[1] + step)
    overhang = placed[-1][1] + step - (plot.bottom + step / 2)
    if overhang > 0:
        limit = plot.bottom - step / 2
        for entry in reversed(placed):
            entry[1] = min(entry[1], limit)
            limit = entry[1] - step
    return [(int(index), top) for index, top in placed]
