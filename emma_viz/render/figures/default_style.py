"""The default figure: for each image its input, true map and retention plot, then panels for each model."""

from emma_viz.render import colours
from emma_viz.render.figures import layout, panels
from emma_viz.render.figures.curves import show_retention
from emma_viz.render.figures.layout import HEADING, MARGIN, PanelGrid, width_of
from emma_viz.render.figures.map_rows import draw_row, map_rows, row_height
from emma_viz.render.figures.marks import bars, name_panels, own_scales
from emma_viz.render.figures.sheet import Box, Sheet
from emma_viz.render.figures.typography import FORCED, LABEL, SMALL, Footer, Gutter
from emma_viz.render.footer import fidelity, remarks
from emma_viz.render.spec import FigureSpec, ImageCase, Limits, ModelCase

_BETWEEN_MODELS = 0.2
_BETWEEN_IMAGES = 0.42


def draw_default(spec: FigureSpec):
    """Draw the default style; returns the matplotlib figure."""
    blocks, footer, height = _laid_out(spec)
    sheet = Sheet(width_of(spec), height, spec.font_scale)
    y = MARGIN
    for index, block in enumerate(blocks):
        if index:
            sheet.rule(MARGIN, y + _BETWEEN_IMAGES / 2, width_of(spec) - 2 * MARGIN, colours.FAINT)
            y += _BETWEEN_IMAGES
        y = block.draw(sheet, y)
    footer.draw(sheet, MARGIN, y + 0.13)
    return sheet.figure


def default_height(spec: FigureSpec) -> float:
    """How tall `draw_default` draws, inches; nothing is drawn."""
    return _laid_out(spec)[2]


def _laid_out(spec: FigureSpec) -> "tuple[list[_Block], Footer, float]":
    caption = layout.CAPTION if spec.scale != "per_map" else 1.8 * layout.CAPTION
    grids = [layout.model_grid(case, caption=caption, sheet=width_of(spec)) for case in spec.images]
    left = layout.panels_left(spec, grids)
    blocks = [_Block(spec, case, grid, left) for case, grid in zip(spec.images, grids, strict=True)]
    footer = Footer(spec, width_of(spec) - 2 * MARGIN)
    height = sum(block.height for block in blocks) + _BETWEEN_IMAGES * (len(blocks) - 1)
    return blocks, footer, MARGIN + height + 0.13 + footer.height + MARGIN


class _Block:
    """One image with all its models."""

    def __init__(self, spec: FigureSpec, case: ImageCase, grid: PanelGrid, left: float):
        self.spec, self.case, self.grid, self.left = spec, case, grid, left
        self.scales = [spec.limits(case, model) for model in case.models]
        self.labels_across = grid.arrangement == "columns" and grid.h < 0.45
        room = left - layout.STRIP - MARGIN - (0.25 if self.labels_across else 0)
        truth = f"Truth: {case.truth}" if case.truth else ""
        self.question = Gutter(case.title, case.prompt, room, remarks=remarks(case), after=truth)
        self.head_height = max(layout.head(case, grid, left, 0.0).height, self.question.height)
        self.answers = [self._answer(model, room) for model in case.models]
        self.heights = [max(grid.height, answer.height) for answer in self.answers]
        self.rows = map_rows(spec, case)
        self.heights += [row_height(row, grid, left) for row in self.rows]

    def _answer(self, model: ModelCase, room: float) -> Gutter:
        warning = [(FORCED, colours.WARNING)] if model.forced else []
        return Gutter(model.name, model.answer, room, remarks=warning, height=self.grid.height)

    @property
    def height(self) -> float:
        return self.head_height + sum(self.heights) + _BETWEEN_MODELS * len(self.heights)

    def draw(self, sheet: Sheet, top: float) -> float:
        """Draw the block from `top` down; returns the y below it."""
        before = len(sheet.figure.axes)
        self._draw_head(sheet, top)
        y = top + self.head_height
        tops = []
        for height in self.heights:
            sheet.rule(MARGIN, y + 0.45 * _BETWEEN_MODELS, self.left + self.grid.width - MARGIN)
            tops.append(y + _BETWEEN_MODELS)
            y += _BETWEEN_MODELS + height
        for index, (model, answer) in enumerate(zip(self.case.models, self.answers, strict=True)):
            answer.draw(sheet, MARGIN, tops[index])
            self._draw_model(sheet, tops[index], model, self.scales[index])
        x = self.left + self.grid.width
        bars(sheet, self.spec, self.case, self.grid, x, tops[: len(self.case.models)])
        for row, start in zip(self.rows, tops[len(self.case.models) :], strict=True):
            draw_row(sheet, row, self.grid, self.left, start)
        panels.show_outline(sheet.figure.axes[before:], self.case.kept)
        return y

    def _draw_head(self, sheet: Sheet, top: float) -> None:
        case, place = self.case, layout.head(self.case, self.grid, self.left, top)
        self.question.draw(sheet, MARGIN, top)
        panels.show_image(sheet, place.image, case)
        limits, label = case.true_limits, f"true map/{case.title}"
        panels.show_map(
            sheet, place.true_map, case.spans, case.true_map, limits, self.spec.color_table, label
        )
        named = [(place.image, "input"), (place.true_map, "map of true pixels")]
        if any(model.retention for model in case.models):
            inside = Box(place.plot.x + 0.3, place.plot.y, 0.0, 0.0)
            named.append((inside, "R² of the decoded pixels"))
            show_retention(sheet, place.plot, case)
        for box, text in named:
            sheet.write(box.x, box.y - HEADING + 0.03, text, LABEL, colour=colours.SOFT)

    def _draw_model(self, sheet: Sheet, top: float, model: ModelCase, scales: list[Limits]) -> None:
        """Draw one model's panels with the names of rows and columns."""
        grid, case, table = self.grid, self.case, self.spec.color_table
        spans = case.spans_of(model)
        for index, layer in enumerate(model.layers):
            cells = {kind: grid.cell(kind, index, self.left, top) for kind in grid.kinds}
            tail = f"{case.title}/{model.name}/{layer}"
            values, limits = model.maps[index], scales[index]
            drawn = [
                panels.show_decoded(sheet, cells["decoded"], spans, model.decoded[index], f"decoded/{tail}"),
                panels.show_map(sheet, cells["map"], spans, values, limits, table, f"map/{tail}"),
                panels.show_highlight(
                    sheet, cells["highlight"], case.image, spans, values, limits, table, f"highlight/{tail}"
                ),
            ]
            for axes in drawn if layer in model.marked else ():
                panels.show_weak(axes)
            middle, below = cells["map"].x + grid.w / 2, cells["map"].bottom + 0.025
            size = LABEL if grid.arrangement != "groups" else SMALL
            sheet.write(middle, below, fidelity(float(model.correlation[index])), size, align="center")
        if self.spec.scale == "per_map":
            own_scales(sheet, grid, scales, self.left, top)
        name_panels(sheet, grid, model, self.left, top, across=self.labels_across)
