"""Line charts of the web page, as inline SVG that its script makes interactive."""

import math
from dataclasses import dataclass
from html import escape

from emma_viz.render.depth import RELATIVE
from emma_viz.render.footer import number
from emma_viz.render.words import shorten_apart

_WIDTH, HEIGHT = 420, 210
_LEFT, _TOP, _BOTTOM = 34, 12, 30
_STEP = 14
"""Least distance of two lines' names, pixels."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a chart."""

    name: str
    colour: int
    """Which of the page's line colours."""
    points: tuple[tuple[float, float], ...]
    """(x, y), finite, sorted by x."""
    marked: frozenset[float] = frozenset()
    """The x that are shown in pictures."""
    dashed: bool = False
    """Drawn as what others are compared with, and not named at its end."""


@dataclass(frozen=True, kw_only=True)
class SvgChart:
    """A line chart with its lines' names at their right ends.

    `relative` says that x is a fraction of the depth and not a layer.
    """

    lines: tuple[Line, ...]
    bottom: float
    top: float
    relative: bool = False
    digits: int = 2
    title: str = ""

    @property
    def span(self) -> tuple[float, float]:
        """First and last x."""
        at = [x for line in self.lines for x, _ in line.points]
        return min(at), max(at)

    @property
    def width(self) -> float:
        """Of the plot itself; the rest is for the names."""
        longest = max(len(line.name) for line in self.lines if not line.dashed)
        return _WIDTH - _LEFT - min(7.2 * longest + 14.0, 170.0)

    def payload(self) -> dict:
        """What the script needs to know."""
        first, last = self.span
        lines = [{"name": line.name, "points": line.points} for line in self.lines]
        frame = {"left": _LEFT, "width": self.width, "first": first, "last": last}
        return {"lines": lines, "relative": self.relative, "digits": self.digits, **frame}

    def draw(self, index: int) -> str:
        """The SVG element; `index` is the chart's place in the page's data."""
        parts = [
            f'<svg class="chart" viewBox="0 0 {_WIDTH} {HEIGHT}" role="img" data-chart="{index}">',
            f"<title>{escape(self.title)}</title>",
            *self._axes(),
            *(part for line in self.lines for part in self._line(line)),
            *self._names(),
            f'<line class="cross" x1="{_LEFT}" x2="{_LEFT}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>',
            "</svg>",
        ]
        return "".join(parts)

    def _x(self, value: float) -> float:
        first, last = self.span
        return round(_LEFT + (value - first) / ((last - first) or 1) * self.width, 1)

    def _y(self, value: float) -> float:
        share = (min(max(value, self.bottom), self.top) - self.bottom) / ((self.top - self.bottom) or 1)
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _BOTTOM - _TOP), 1)

    def _axes(self) -> list[str]:
        parts = []
        below = any(y < self.bottom for line in self.lines for _, y in line.points)
        for value in _ticks(self.bottom, self.top, 4):
            edge = "≤ " if below and value == self.bottom else ""
            y = self._y(value)
            parts.append(
                f'<line class="gridline" x1="{_LEFT}" x2="{_LEFT + self.width:.1f}" y1="{y}" y2="{y}"/>'
            )
            parts.append(f'<text x="{_LEFT - 7}" y="{y + 4}" text-anchor="end">{edge}{number(value)}</text>')
        first, last = self.span
        base = HEIGHT - _BOTTOM
        for value in _ticks(max(first, 0.0), float(last), 6, whole=not self.relative):
            x = self._x(value)
            parts.append(f'<line class="axis" x1="{x}" x2="{x}" y1="{base}" y2="{base + 4}"/>')
            if first < 0 and x - _LEFT < 26:
                continue
            parts.append(f'<text x="{x}" y="{base + 16}" text-anchor="middle">{number(value)}</text>')
        if first < 0:
            parts.append(f'<text x="{self._x(first)}" y="{base + 16}" text-anchor="middle">emb.</text>')
        words = RELATIVE if self.relative else "layer"
        middle = _LEFT + self.width / 2
        parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 1}" text-anchor="middle">{words}</text>')
        return parts

    def _line(self, line: Line) -> list[str]:
        at = " ".join(f"{self._x(x)},{self._y(y)}" for x, y in line.points)
        kind = "line control" if line.dashed else "line"
        parts = [f'<g style="--c:var(--m{line.colour})"><polyline class="{kind}" points="{at}"/>']
        for x, y in line.points:
            # A value below the axis is drawn at its edge, open.
            kind = "open" if y < self.bottom else "dot"
            if x in line.marked or kind == "open":
                parts.append(f'<circle class="{kind}" cx="{self._x(x)}" cy="{self._y(y)}" r="3.6"/>')
        return [*parts, "</g>"]

    def _names(self) -> list[str]:
        """The names at the lines' ends, moved apart where they would overlap."""
        named = {index: line for index, line in enumerate(self.lines) if not line.dashed}
        ends = sorted((self._y(line.points[-1][1]), index) for index, line in named.items())
        low, places = -math.inf, {}
        for y, index in ends:
            low = max(y, low + _STEP)
            places[index] = low
        over = max(low - (HEIGHT - _BOTTOM), 0)
        x = _LEFT + self.width + 10
        names = [line.name for line in named.values()]
        shown = shorten_apart(names, lambda name: name if len(name) <= 22 else name[:21] + "…")
        return [
            f'<text class="end" style="--c:var(--m{line.colour})" x="{x:.1f}" y="{places[index] - over + 4:.1f}">'
            f"{escape(name)}</text>"
            for name, (index, line) in zip(shown, named.items(), strict=True)
        ]


def _ticks(low: float, high: float, count: int, whole: bool = False) -> list[float]:
    """At most about `count` round numbers between two, the ends included if they are round."""
    raw = max((high - low) / count, 1e-12)
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if size * factor >= raw * (1 - 1e-9))
    if whole:
        step = max(1.0, float(math.ceil(step)))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]
