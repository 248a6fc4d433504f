"""Rows of maps that stand below the models of an image: their difference, and the evidence for a word."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from emma_viz.maps.scale import EvidenceScale, evidence_scale
from emma_viz.render import colours, words
from emma_viz.render.figures import layout, panels
from emma_viz.render.figures.layout import GAP, HEADING, MARGIN, PanelGrid
from emma_viz.render.figures.sheet import Box, Sheet
from emma_viz.render.figures.typography import BODY, LABEL, TITLE
from emma_viz.render.footer import number, verdict_of
from emma_viz.render.spans import GridSpans
from emma_viz.render.spec import (
    WEAK_MARK,
    FigureSpec,
    ImageCase,
    Limits,
    difference_limits,
    layer_label,
    map_change,
    rms,
)

_SHORTEST = 0.75
"""Height of a row's colour bar at the least."""
_LINES = 14


@dataclass(frozen=True, kw_only=True, eq=False)
class RowMap:
    """One map of a row."""

    label: str
    """Names it in tests and in SVG."""
    heading: str
    values: Float[np.ndarray, "R C"]
    spans: GridSpans
    caption: str
    weak: str = ""
    """Why it is marked, in words; "" where it is not."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MapRow:
    """Maps that share one scale, centred on zero."""

    kind: str
    """`difference` or `evidence`."""
    title: str
    about: str
    maps: tuple[RowMap, ...]
    limits: Limits
    unit: str
    """What the colour bar says."""

    @property
    def beyond(self) -> bool:
        """Whether values lie beyond the scale."""
        return any(bool((np.abs(each.values) > self.limits[1]).any()) for each in self.maps)


def map_rows(spec: FigureSpec, case: ImageCase) -> tuple[MapRow, ...]:
    """The rows that every picture of an image shows below its models, in order."""
    found = [_evidence(case)] if case.word is not None else []
    return (*((_difference(case),) if spec.difference else ()), *found)


def evidence_said(scale: EvidenceScale) -> str:
    """How much a word's evidence is, so that a person can judge it."""
    share = "" if scale.share is None else f", {number(100 * scale.share, 2)} % of the word's log-probability"
    return (
        f"{'negligible: ' if scale.negligible else ''}at most {number(scale.most, 2)} nats for a token{share}"
    )


def _difference(case: ImageCase) -> MapRow:
    layers, values = map_change(case)
    first, second = (words.clean(model.name) for model in case.subtracted)
    marked = {layer for model in case.subtracted for layer in model.marked}
    maps = [
        RowMap(
            label=f"difference/{case.title}/{layer}",
            heading=layer_label(layer) + f" {WEAK_MARK}" * (layer in marked),
            values=each,
            spans=case.spans_of(case.subtracted[0]),
            caption=f"rms {number(rms(each))}",
            weak="made of a map that does not beat its controls" * (layer in marked),
        )
        for layer, each in zip(layers, values, strict=True)
    ]
    return MapRow(
        kind="difference",
        title="Difference",
        about=f"{first} minus {second}",
        maps=tuple(maps),
        limits=difference_limits(case),
        unit="difference",
    )


def _evidence(case: ImageCase) -> MapRow:
    given = [(model, model.evidence) for model in case.models if model.evidence is not None]
    scale = evidence_scale([values for _, values in given], [model.score for model, _ in given])
    maps = [
        RowMap(
            label=f"evidence/{case.title}/{model.name}",
            heading=words.clean(model.name) + f" {WEAK_MARK}" * (not model.beats),
            values=values,
            spans=case.spans_of(model),
            caption="log p –" if model.score is None else f"log p {number(model.score, 2)}",
            weak="" if model.beats else verdict_of(model),
        )
        for model, values in given
    ]
    verdicts = ", ".join(f"{words.clean(model.name)} {verdict_of(model)}" for model, _ in given)
    return MapRow(
        kind="evidence",
        title="Evidence",
        about=f"for {words.clean(case.word or '')}: {evidence_said(scale)}; {verdicts}",
        maps=tuple(maps),
        limits=(-scale.limit, scale.limit),
        unit="nats",
    )


def row_height(row: MapRow, grid: PanelGrid, left: float) -> float:
    """Inches that `draw_row` takes."""
    box = _cell(grid, len(row.maps) - 1, 0.0, 0.0)
    text = words.line_height(TITLE) + 0.03 + len(_about(row, left)) * words.line_height(BODY)
    return max(box.bottom + layout.CAPTION, text, HEADING + _SHORTEST)


def draw_row(sheet: Sheet, row: MapRow, grid: PanelGrid, left: float, top: float) -> None:
    """Draw a row on the grid of its models.

    Args:
        left: where the panels begin, inches.
        top: where the row begins, inches.
    """
    y = sheet.write_lines(MARGIN, top, [row.title], TITLE, bold=True)
    sheet.write_lines(MARGIN, y + 0.03, _about(row, left), BODY)
    box = Box(left, top, 0.0, 0.0)
    for index, each in enumerate(row.maps):
        box = _cell(grid, index, left, top)
        axes = panels.show_map(
            sheet, box, each.spans, each.values, row.limits, colours.DIFFERENCE, each.label
        )
        if each.weak:
            panels.show_weak(axes)
        middle = box.x + box.w / 2
        name = each.heading.removesuffix(f" {WEAK_MARK}")
        mark = each.heading[len(name) :]
        heading = words.shorten(name, _across(grid)[1] - GAP - words.width(mark, LABEL), LABEL) + mark
        sheet.write(middle, box.y - HEADING + 0.03, heading, LABEL, colour=colours.SOFT, align="center")
        sheet.write(middle, box.bottom + 0.025, each.caption, LABEL, align="center")
    bar = Box(left + grid.width + 0.1, box.y, 0.085, max(box.h, _SHORTEST))
    panels.show_bar(sheet, bar, row.limits, colours.DIFFERENCE, row.unit, beyond=row.beyond)


def _about(row: MapRow, left: float) -> list[str]:
    return words.wrap(row.about, left - layout.STRIP - MARGIN, BODY, lines=_LINES)


def _across(grid: PanelGrid) -> tuple[int, float]:
    """Maps beside one another, and inches from one to the next: the panels' own where a heading fits."""
    across = min(grid.across, max(1, int((grid.width + GAP) / layout.NARROWEST)))
    return across, max(min(grid.pitch, (grid.width + GAP) / across), layout.NARROWEST)


def _cell(grid: PanelGrid, index: int, left: float, top: float) -> Box:
    """Maps always run to the right, as large as the panels where they fit, and go on below."""
    across, pitch = _across(grid)
    w = min(grid.w, pitch - GAP)
    h = w * grid.h / grid.w
    band, column = divmod(index, across)
    y = top + HEADING + band * (HEADING + h + layout.CAPTION + GAP)
    return Box(left + column * pitch + (pitch - GAP - w) / 2, y, w, h)
