"""The paper's own layout: two rows a model, the reconstruction's magnitude and those patches highlighted.

The input stands at the left, layers are columns, and each model's answer is below its rows.
"""

from emma_viz.render import colours, words
from emma_viz.render.figures import layout, panels
from emma_viz.render.figures.layout import GUTTER, MARGIN, STRIP, PanelGrid, room_of, width_of
from emma_viz.render.figures.map_rows import draw_row, map_rows, row_height
from emma_viz.render.figures.marks import bars, name_panels, own_scales
from emma_viz.render.figures.sheet import Box, Sheet
from emma_viz.render.figures.typography import BODY, FORCED, TITLE, Footer, Gutter
from emma_viz.render.footer import remarks
from emma_viz.render.spec import FigureSpec, ImageCase, ModelCase

_KINDS = ("map", "highlight")
LEFT = MARGIN + GUTTER + STRIP
_NAME = 0.2
"""Height of a model's name above its panels."""
SHORTEST = 3.4
"""Least width of the answers."""
BETWEEN_MODELS = 0.16
BETWEEN_IMAGES = 0.36


def draw_paper(spec: FigureSpec):
    """Draw the paper's layout; returns the matplotlib figure."""
    blocks, footer, height = _laid_out(spec)
    sheet = Sheet(width_of(spec), height, spec.font_scale)
    y = MARGIN
    for index, block in enumerate(blocks):
        if index:
            sheet.rule(MARGIN, y + BETWEEN_IMAGES / 2, width_of(spec) - 2 * MARGIN)
            y += BETWEEN_IMAGES
        y = block.draw(sheet, y)
    footer.draw(sheet, MARGIN, y + 0.1)
    return sheet.figure


def paper_height(spec: FigureSpec) -> float:
    """How tall `draw_paper` draws, inches; nothing is drawn."""
    return _laid_out(spec)[2]


def _laid_out(spec: FigureSpec) -> "tuple[list[_Block], Footer, float]":
    caption = layout.CAPTION if spec.scale == "per_map" else 0.0
    grids = [
        layout.model_grid(case, kinds=_KINDS, caption=caption, sheet=width_of(spec)) for case in spec.images
    ]
    blocks = [_Block(spec, case, grid) for case, grid in zip(spec.images, grids, strict=True)]
    footer = Footer(spec, width_of(spec) - 2 * MARGIN)
    height = sum(block.height for block in blocks) + BETWEEN_IMAGES * (len(blocks) - 1)
    return blocks, footer, MARGIN + height + 0.1 + footer.height + MARGIN


class _Block:
    """One image with all its models."""

    def __init__(self, spec: FigureSpec, case: ImageCase, grid: PanelGrid):
        self.spec, self.case, self.grid = spec, case, grid
        self.scales = [spec.limits(case, model) for model in case.models]
        # Answers of narrow panels may be wider than they; the colour bar then stands right of the answers.
        self.room = max(grid.width, min(SHORTEST, room_of(grid.sheet)))
        self.answers = [self._answer(model) for model in case.models]
        line = words.line_height(BODY)
        self.heights = [_NAME + grid.height + 0.06 + len(lines) * line for lines in self.answers]
        after = f"Truth: {case.truth}" if case.truth else ""
        self.question = Gutter(case.title, case.prompt, GUTTER, remarks=remarks(case), after=after)
        self.labels_across = grid.arrangement == "columns" and grid.h < 0.5
        h = min((GUTTER - (0.3 if self.labels_across else 0)) / case.aspect, 2.2)
        self.image = Box(MARGIN, self.question.height + 0.08, h * case.aspect, h)
        self.above = max(self.image.bottom, sum(self.heights) + BETWEEN_MODELS * (len(self.heights) - 1))
        self.rows = map_rows(spec, case)
        self.height = self.above + sum(BETWEEN_MODELS + row_height(row, grid, LEFT) for row in self.rows)

    def _answer(self, model: ModelCase) -> list[tuple[str, str]]:
        """Lines below a model's panels with their colours."""
        text = words.clean(model.answer)
        lines = words.wrap(f"“{text}”" if text else "(no answer)", self.room, BODY, lines=5)
        warning = [(FORCED, colours.WARNING)] if model.forced else []
        return [*warning, *((line, colours.INK) for line in lines)]

    def draw(self, sheet: Sheet, top: float) -> float:
        """Draw the block from `top` down; returns the y below it."""
        before = len(sheet.figure.axes)
        self.question.draw(sheet, MARGIN, top)
        box = self.image
        panels.show_image(sheet, Box(box.x, top + box.y, box.w, box.h), self.case)
        tops, y = [], top
        for height in self.heights:
            tops.append(y + _NAME)
            y += height + BETWEEN_MODELS
        for start, model, lines, scales in zip(
            tops, self.case.models, self.answers, self.scales, strict=True
        ):
            self._draw_model(sheet, start, model, scales)
            y = start + self.grid.height + 0.06
            for line, colour in lines:
                y = sheet.write_lines(LEFT, y, [line], BODY, colour=colour)
        bars(sheet, self.spec, self.case, self.grid, LEFT + self.room, tops)
        y = top + self.above
        for row in self.rows:
            draw_row(sheet, row, self.grid, LEFT, y + BETWEEN_MODELS)
            y += BETWEEN_MODELS + row_height(row, self.grid, LEFT)
        panels.show_outline(sheet.figure.axes[before:], self.case.kept)
        return top + self.height

    def _draw_model(self, sheet: Sheet, top: float, model: ModelCase, scales) -> None:
        grid, case, table = self.grid, self.case, self.spec.color_table
        spans = case.spans_of(model)
        name = words.shorten(words.clean(model.name), self.room, TITLE, bold=True)
        sheet.write(LEFT, top - _NAME, name, TITLE, bold=True)
        for index, layer in enumerate(model.layers):
            tail = f"{case.title}/{model.name}/{layer}"
            values, limits = model.maps[index], scales[index]
            box = grid.cell("map", index, LEFT, top)
            drawn = [panels.show_map(sheet, box, spans, values, limits, table, f"map/{tail}")]
            box = grid.cell("highlight", index, LEFT, top)
            label = f"highlight/{tail}"
            drawn.append(panels.show_highlight(sheet, box, case.image, spans, values, limits, table, label))
            for axes in drawn if layer in model.marked else ():
                panels.show_weak(axes)
        if self.spec.scale == "per_map":
            own_scales(sheet, grid, scales, LEFT, top)
        names = {"map": self._map_name(), "highlight": "highlighted" if grid.h > 0.7 else "highlight"}
        name_panels(sheet, grid, model, LEFT, top, across=self.labels_across, names=names)

    def _map_name(self) -> str:
        return self.spec.map_kind if words.width(self.spec.map_kind, 6.8) < self.grid.h else "map"
