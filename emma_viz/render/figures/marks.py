"""What surrounds the panels in every style: bars of colour scales, names of rows and columns."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from emma_viz.render import colours, words
from emma_viz.render.figures import panels
from emma_viz.render.figures.layout import HEADING, PanelGrid
from emma_viz.render.figures.sheet import Box, Sheet
from emma_viz.render.figures.typography import LABEL, SMALL, TINY
from emma_viz.render.footer import number
from emma_viz.render.spec import ONE_SCALE, FigureSpec, ImageCase, Limits, ModelCase, marked_label

ROW_NAMES = MappingProxyType({"decoded": "decoded", "map": "map", "highlight": "highlight"})


def bars(
    sheet: Sheet, spec: FigureSpec, case: ImageCase, grid: PanelGrid, x: float, tops: Sequence[float]
) -> None:
    """Draw one colour bar for the image, or one a model; none when each map has its own scale.

    Args:
        x: left end of what is right of the panels, inches.
        tops: where each model's block starts.
    """
    if spec.scale == "per_map":
        return
    blocks = zip(tops, case.models, strict=True)
    spans = [(top + grid.heading, top + grid.height, [model.maps]) for top, model in blocks]
    if spec.scale in ONE_SCALE:
        spans = [(spans[0][0], spans[-1][1], [case.true_map, *(model.maps for model in case.models)])]
    scales = [spec.limits(case, model)[0] for model in case.models]
    for (start, end, shown), (low, high) in zip(spans, scales, strict=False):
        height = min(end - start, 2.2)
        box = Box(x + 0.1, (start + end - height) / 2, 0.085, height)
        beyond = any((values < low).any() or (values > high).any() for values in shown)
        panels.show_bar(sheet, box, (low, high), spec.color_table, spec.map_label, beyond=beyond)


def own_scales(sheet: Sheet, grid: PanelGrid, scales: Sequence[Limits], left: float, top: float) -> None:
    """Say below each map of a model that its colours are its own, and what they span."""
    forms = (("own scale {}", SMALL, 2), ("own {}", SMALL, 2), ("own {}", TINY, 2), ("own {}", TINY, 1))
    for form, size, figures in forms:
        texts = [form.format(_span(limits, figures)) for limits in scales]
        if max(words.width(text, size) for text in texts) <= grid.pitch - 0.02:
            break
    for index, text in enumerate(texts):
        box = grid.cell("map", index, left, top)
        y = box.bottom + grid.caption - 0.135
        sheet.write(box.x + box.w / 2, y, text, size, colour=colours.SOFT, align="center")


def _span(limits: Limits, figures: int) -> str:
    low, high = limits
    return f"{number(low, figures)}{'–' if low >= 0 else ' to '}{number(high, figures)}"


def name_panels(
    sheet: Sheet,
    grid: PanelGrid,
    model: ModelCase,
    left: float,
    top: float,
    *,
    across: bool = False,
    names: Mapping[str, str] = ROW_NAMES,
) -> None:
    """Name the columns of a block above them and its rows at their left (upright where they are low)."""
    layers, groups = model.layers, grid.arrangement == "groups"
    for kind in grid.kinds:
        if grid.arrangement == "rows":
            for first in range(0, len(layers), grid.across):
                _name_row(sheet, grid.cell(kind, first, left, top), names[kind], across)
        else:
            text = names[kind] + (", layer" if groups else "")
            sheet.write(grid.cell(kind, 0, left, top).x, top + 0.03, text, LABEL, colour=colours.SOFT)
    for index, layer in enumerate(layers):
        text = marked_label(model, layer)
        if grid.arrangement == "columns":
            _name_row(sheet, grid.cell(grid.kinds[0], index, left, top), text, across)
            continue
        if groups:
            text = text.replace("embedding", "emb.").removeprefix("layer ")
        for kind in grid.kinds if groups else grid.kinds[:1]:
            box = grid.cell(kind, index, left, top)
            sheet.write(
                box.x + box.w / 2, box.y - HEADING + 0.03, text, LABEL, colour=colours.SOFT, align="center"
            )


def _name_row(sheet: Sheet, box: Box, text: str, across: bool) -> None:
    middle = box.y + box.h / 2
    if across:
        sheet.write(box.x - 0.06, middle - 0.4 * LABEL / 72, text, LABEL, colour=colours.SOFT, align="right")
    else:
        sheet.write(box.x - 0.09, middle, text, LABEL, colour=colours.SOFT, align="center", rotation=90.0)
