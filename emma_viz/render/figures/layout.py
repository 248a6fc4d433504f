"""Where the panels go: arithmetic in inches, nothing drawn."""

from dataclasses import dataclass

from emma_viz.render.figures.sheet import Box
from emma_viz.render.spec import FigureSpec, ImageCase

WIDTH = 7.2
"""Of the sheet: the text width of a page, so that the type is read at its own size. With larger type the layout is
that of a narrower sheet, which is then enlarged to this width."""
_PAGE = 9.4
"""Height that a figure of one image should keep to, so that it fits on a page."""
MARGIN = 0.1
GUTTER = 1.34
"""Least width of the left column: names, prompt, answers."""
STRIP = 0.22
"""Between the gutter and the panels: names of the rows."""
BAR = 0.66
"""Right column: the colour bar."""
GAP = 0.05
GROUP_GAP = 0.16
BAND_GAP = 0.08
"""Between bands of rows, so that the names of columns stand nearer to what they name."""
HEADING = 0.16
"""Above a block of panels: names of the columns."""
CAPTION = 0.15
"""Below each map: its correlation."""

PLOT = 1.95
"""Least width of the retention plot."""
INPUT = 1.2
"""Height of the input image, where it is not that of the panels."""
_TALLEST, SMALLEST = 1.5, 0.72
"""Bounds of a panel's height."""
WIDE, TALL = 2.4, 0.45
"""Aspects beyond which layers run down, or the kinds stand side by side."""
NARROWEST = 0.58
"""Pitch of columns that a heading fits in."""
NARROWEST_IN_GROUP = 0.3
LOWEST = 0.36
"""Height of panels whose rows can be named at their left."""

PANEL_KINDS = ("decoded", "map", "highlight")


@dataclass(frozen=True, kw_only=True)
class PanelGrid:
    """The panels of one model.

    `arrangement` is "rows": layers run to the right and the kinds down, and where the layers are too many for
    one line they go on in another band of rows below; "columns": layers down and kinds to the right, for wide
    images and for one or two layers; or "groups": one row with all layers of a kind, then the next kind, for tall
    images.
    """

    kinds: tuple[str, ...]
    layers: int
    across: int
    """Layers in a band of rows."""
    arrangement: str
    w: float
    h: float
    pitch: float
    caption: float
    """Height of the words below each map."""
    sheet: float = WIDTH
    """Width of the sheet that it is laid out on, before it is enlarged."""

    @property
    def heading(self) -> float:
        """Height of the names of the columns."""
        return 2 * HEADING if self.arrangement == "groups" else HEADING

    @property
    def height(self) -> float:
        """Of the whole block, its heading included."""
        if self.arrangement == "rows":
            return self.bands * self.band - BAND_GAP - GAP
        rows = self.layers if self.arrangement == "columns" else 1
        return self.heading + rows * (self.h + self.caption + GAP) - GAP

    @property
    def bands(self) -> int:
        """Bands of rows below one another."""
        return -(-self.layers // self.across)

    @property
    def band(self) -> float:
        """From the top of a band of rows to the top of the next."""
        return HEADING + len(self.kinds) * (self.h + GAP) + self.caption + BAND_GAP

    @property
    def width(self) -> float:
        """From the left of the first panel to the right of the last, inches."""
        if self.arrangement == "groups":
            return len(self.kinds) * (self.layers * self.pitch + GROUP_GAP) - GROUP_GAP
        across = self.across if self.arrangement == "rows" else len(self.kinds)
        return (across - 1) * self.pitch + self.w

    def cell(self, kind: str, layer: int, left: float, top: float) -> Box:
        """The panel of a kind and the index of a layer, in a block whose corner is at (left, top)."""
        number = self.kinds.index(kind)
        y = top + self.heading
        if self.arrangement == "groups":
            middle = (self.pitch - self.w) / 2
            left += number * (self.layers * self.pitch + GROUP_GAP) + middle
            return Box(left + layer * self.pitch, y, self.w, self.h)
        if self.arrangement == "columns":
            return Box(left + number * self.pitch, y + layer * (self.h + self.caption + GAP), self.w, self.h)
        below_map = self.caption if number > self.kinds.index("map") else 0
        band, column = divmod(layer, self.across)
        y += band * self.band + number * (self.h + GAP) + below_map
        return Box(left + column * self.pitch, y, self.w, self.h)


def width_of(spec: FigureSpec) -> float:
    """Width of the sheet that a figure is laid out on, before its type is enlarged."""
    return WIDTH / spec.font_scale


def room_of(sheet: float) -> float:
    """Most width that the panels of a row have together."""
    return sheet - 2 * MARGIN - GUTTER - STRIP - BAR


def model_grid(
    case: ImageCase, *, kinds: tuple[str, ...] = PANEL_KINDS, caption: float = CAPTION, sheet: float = WIDTH
) -> PanelGrid:
    """The grid that all models of an image are drawn on, so that their layers align."""
    layers = max(len(model.layers) for model in case.models)
    across, room = layers, room_of(sheet)
    each = (_PAGE * sheet / WIDTH - 2.4) / len(case.models) - 0.2 - HEADING
    # Words on two lines below a map are wider than the panels of a group.
    if case.aspect < TALL and 1 < layers <= 5 and caption <= CAPTION:
        pitch = ((room + GROUP_GAP) / len(kinds) - GROUP_GAP) / layers
        h = min(max(each - HEADING - caption, SMALLEST), 2.4, (pitch - GAP) / case.aspect)
        pitch = min(pitch, max(h * case.aspect + GAP, NARROWEST_IN_GROUP))
        arrangement = "groups"
    elif layers <= 2 or case.aspect > WIDE:
        pitch = (room + GAP) / len(kinds)
        tallest = each / layers - caption - GAP
        h = min(max(tallest, SMALLEST), _TALLEST, (pitch - GAP) / case.aspect)
        pitch = min(pitch, max(h * case.aspect + GAP, NARROWEST))
        arrangement = "columns"
    else:
        most = max(1, int((room + GAP) / max(NARROWEST, LOWEST * case.aspect + GAP)))
        bands = -(-layers // most)
        across = -(-layers // bands)
        pitch = (room + GAP) / across
        tallest = (each / bands - caption) / len(kinds) - GAP
        h = min(max(tallest, SMALLEST), _TALLEST, (pitch - GAP) / case.aspect)
        pitch = min(pitch, max(h * case.aspect + GAP, NARROWEST))
        arrangement = "rows"
    w = h * case.aspect
    return PanelGrid(
        kinds=kinds,
        layers=layers,
        across=across,
        arrangement=arrangement,
        w=w,
        h=h,
        pitch=pitch,
        caption=caption,
        sheet=sheet,
    )


@dataclass(frozen=True, kw_only=True)
class FigureHead:
    """The top of an image's block: the input, the map of its true pixels, the retention plot."""

    image: Box
    true_map: Box
    plot: Box
    height: float


def head(case: ImageCase, grid: PanelGrid, left: float, top: float) -> FigureHead:
    """Place the input and the true map side by side, or one above the other when they are wide."""
    y, room = top + HEADING, room_of(grid.sheet)
    if case.aspect > WIDE:
        image = Box(left, y, 0.5 * room, 0.5 * room / case.aspect)
        second = Box(left, image.bottom + HEADING + GAP, image.w, image.h)
    else:
        w, h = _input_size(case, grid)
        image = Box(left, y, w, h)
        second = Box(left + _input_pitch(w), y, w, h)
    bottom = max(second.bottom, y + 0.95)
    start = left + _head_width(case, grid) - PLOT
    plot = Box(start, y, grid.sheet - MARGIN - start, bottom - y)
    return FigureHead(image=image, true_map=second, plot=plot, height=bottom - top)


def panels_left(spec: FigureSpec, grids: list[PanelGrid]) -> float:
    """Where the panels of all images start: as far right as they fit, which leaves the words more room."""
    least = MARGIN + GUTTER + STRIP
    free = [grid.sheet - MARGIN - BAR - grid.width for grid in grids]
    if spec.style == "default":
        free += [
            grid.sheet - MARGIN - _head_width(case, grid)
            for case, grid in zip(spec.images, grids, strict=True)
        ]
    return max(least, min(free))


def _input_size(case: ImageCase, grid: PanelGrid) -> tuple[float, float]:
    """The panels' own size where that is large enough, so that columns align; else larger."""
    if grid.arrangement == "rows" and (grid.h >= 0.9 or grid.w >= 1.3):
        return grid.w, grid.h
    w = min(INPUT * case.aspect, 0.3 * room_of(grid.sheet))
    return w, w / case.aspect


def _input_pitch(w: float) -> float:
    # Room for the words above the first of the two.
    return max(w + 2 * GAP, 0.42)


def _head_width(case: ImageCase, grid: PanelGrid) -> float:
    if case.aspect > WIDE:
        return 0.5 * room_of(grid.sheet) + 0.2 + PLOT
    w, _ = _input_size(case, grid)
    return _input_pitch(w) + max(w, 0.95) + 0.15 + PLOT
