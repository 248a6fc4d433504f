"""Charts of the tabletop world: bars or lines between labelled axes under a title, drawn with exact masks."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from emma_viz.data.tabletop.kinds import COLOURS
from emma_viz.data.tabletop.pen import RGB, Length
from emma_viz.errors import MissingDependencyError

FORMS = ("bar", "line")
TITLES = (
    "Sales",
    "Rain",
    "Speed",
    "Costs",
    "Votes",
    "Heat",
    "Growth",
    "Energy",
    "Traffic",
    "Profit",
    "Goals",
    "Music",
)
"""What a chart can be titled."""

PAPERS: dict[str, tuple[RGB, RGB, str]] = {
    "light": ((244, 243, 238), (52, 54, 60), "white"),
    "dark": ((28, 31, 40), (214, 217, 222), "black"),
}
"""Paper → its colour, the ink's colour, and the colour that cannot be told apart from it."""

SIDE = 128
_LEFT, RIGHT, _TOP, _BOTTOM = 24, 124, 25, 111
"""Where the axes lie, pixels: the vertical one at LEFT, the horizontal one at BOTTOM."""

HIGHEST = 10
"""A value is 1 … HIGHEST; the vertical axis has a tick at every second one."""
UNITS = (1, 5, 10)
"""What one step of a value can stand for on the labels of the vertical axis."""

_FINE = 3
"""Charts are drawn this many times larger and shrunk, for smooth lines and letters."""
TITLE_HEIGHT, LABEL_HEIGHT = 15, 9
"""Font sizes, pixels."""
TINT, GRAIN = 9, 1.5
"""How far a paper's colour may lie from the named one, and the deviation of its grain, of 255."""
STROKE = 3
"""Width of a chart's line, pixels."""


@dataclass(frozen=True, kw_only=True)
class ChartSeries:
    """One bar, with its one value, or one line, with its values from left to right; values are 1 … HIGHEST."""

    colour: str
    values: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ChartPicture:
    """What a chart shows.

    Attributes:
        form: "bar" or "line": the kind of each of its series.
        title: one of TITLES.
        paper: "light" or "dark".
        unit: what one step of a value stands for on the labels.
        series: the bars from left to right, or the lines in the order in which they are painted; their colours differ.
    """

    form: str
    title: str
    paper: str
    unit: int
    series: tuple[ChartSeries, ...]


def plan_chart(rng: np.random.Generator) -> ChartPicture:
    """Choose what a chart shows: 2–5 bars of different heights, or 1–3 lines."""
    form, title, paper = (str(rng.choice(words)) for words in (FORMS, TITLES, list(PAPERS)))
    count = int(rng.integers(2, 6)) if form == "bar" else int(rng.integers(1, 4))
    visible = [colour for colour in COLOURS if colour != PAPERS[paper][2]]
    colours = [str(colour) for colour in rng.permutation(visible)[:count]]
    if form == "bar":
        values = rng.permutation(np.arange(2, HIGHEST + 1))[:count, None]
    else:
        values = _wander(count, int(rng.integers(4, 7)), rng)
    series = tuple(
        ChartSeries(colour=colour, values=tuple(int(v) for v in row))
        for colour, row in zip(colours, values, strict=True)
    )
    return ChartPicture(form=form, title=title, paper=paper, unit=int(rng.choice(UNITS)), series=series)


def _wander(count: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """Lines that start at different heights and wander: some cross, some do not."""
    starts = rng.permutation(np.linspace(2, HIGHEST - 1, max(count, 3)).round().astype(int))[:count]
    steps = rng.integers(-2, 3, (count, length - 1))
    values = starts[:, None] + np.concatenate([np.zeros((count, 1), dtype=int), steps.cumsum(1)], axis=1)
    return np.clip(values, 1, HIGHEST)


def outline(chart: ChartPicture) -> list[np.ndarray]:
    """Where each series lies, pixels.

    Returns:
        For each, int (k, 2), x then y: a line's points, or a bar's upper left corner and the
        one past its lower right.
    """
    places = _columns(chart)
    heights = [[_level(value) for value in series.values] for series in chart.series]
    if chart.form == "line":
        return [np.array(list(zip(places, line, strict=True))) for line in heights]
    half = int(0.36 * (RIGHT - _LEFT) / len(places))
    return [
        np.array([(x - half, top), (x + half, _BOTTOM)]) for x, (top,) in zip(places, heights, strict=True)
    ]


def _columns(chart: ChartPicture) -> list[int]:
    """x of each bar, or of each point of a line."""
    count = len(chart.series) if chart.form == "bar" else len(chart.series[0].values)
    slot = (RIGHT - _LEFT) / count
    return [round(_LEFT + (i + 0.5) * slot) for i in range(count)]


def _level(value: int) -> int:
    """y of a value."""
    return round(_BOTTOM - value * (_BOTTOM - _TOP) / HIGHEST)


def draw_chart(chart: ChartPicture, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a chart: paper, axes and words, then each series.

    Args:
        chart: what it shows.
        rng: the scene's stream of its drawing: the paper's tint and grain, and whether it is ruled.

    Returns:
        The image, uint8 (128, 128, 3), and the mask, uint8 (128, 128): n is `chart.series[n - 1]`.
    """
    r, g, b = (int(v) for v in PAPERS[chart.paper][0] + rng.integers(-TINT, TINT + 1, 3))
    pixels = _frame(chart, (r, g, b), ruled=bool(rng.random() < 0.5)) + rng.normal(0, GRAIN, (SIDE, SIDE, 1))
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for number, (series, points) in enumerate(zip(chart.series, outline(chart), strict=True), start=1):
        cover = _cover(chart.form, points)
        pixels += cover[..., None] * (np.array(COLOURS[series.colour]) - pixels)
        mask[cover > 0.5] = number
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8), mask


def _cover(form: str, points: np.ndarray) -> np.ndarray:
    """float (128, 128) in [0, 1]: how much of each pixel a bar or line covers."""
    canvas = Image.new("L", (SIDE * _FINE, SIDE * _FINE))
    pen = ImageDraw.Draw(canvas)
    if form == "bar":
        (left, top), (right, bottom) = (points * _FINE).tolist()
        pen.rectangle([left, top, right - 1, bottom - 1], fill=255)
    else:
        corners, radius = [tuple(point) for point in (points * _FINE).tolist()], STROKE * _FINE // 2
        pen.line(corners, fill=255, width=STROKE * _FINE)
        for x, y in corners:
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)
    return np.asarray(canvas.reduce(_FINE), dtype=float) / 255


def _frame(chart: ChartPicture, paper: RGB, *, ruled: bool) -> np.ndarray:
    """Paper, title, axes, ticks and their labels: float (128, 128, 3), 0–255."""
    ink = PAPERS[chart.paper][1]
    canvas = Image.new("RGB", (SIDE * _FINE, SIDE * _FINE), paper)
    pen = ImageDraw.Draw(canvas)

    def stroke(x0: int, y0: int, x1: int, y1: int, colour: RGB) -> None:
        pen.rectangle([x0 * _FINE, y0 * _FINE, x1 * _FINE - 1, y1 * _FINE - 1], fill=colour)

    def write(x: Length, y: Length, words: str, size: int, anchor: str) -> None:
        pen.text((x * _FINE, y * _FINE), words, fill=ink, font=_font(size * _FINE), anchor=anchor)

    r, g, b = ((3 * p + i) // 4 for p, i in zip(paper, ink, strict=True))
    for value in range(0, HIGHEST + 1, 2):
        y = _level(value)
        if ruled and value:
            stroke(_LEFT, y, RIGHT, y + 1, (r, g, b))
        stroke(_LEFT - 4, y, _LEFT, y + 1, ink)
        write(_LEFT - 5, y + 0.5, str(value * chart.unit), LABEL_HEIGHT, "rm")
    for number, x in enumerate(_columns(chart)):
        stroke(x, _BOTTOM, x + 1, _BOTTOM + 4, ink)
        write(x + 0.5, _BOTTOM + 5, str(number + 1), LABEL_HEIGHT, "mt")
    stroke(_LEFT - 1, _TOP - 3, _LEFT, _BOTTOM + 1, ink)
    stroke(_LEFT - 1, _BOTTOM, RIGHT, _BOTTOM + 1, ink)
    write((_LEFT + RIGHT) / 2, (_TOP - 3) / 2, chart.title, TITLE_HEIGHT, "mm")
    return np.asarray(canvas.reduce(_FINE), dtype=float)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font that Pillow brings along, so that letters look the same everywhere."""
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise MissingDependencyError(
            "a Pillow with FreeType",
            "letter charts",
            "pip install --force-reinstall --only-binary :all: pillow",
        )
    return font
