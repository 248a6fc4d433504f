"""A small drawing board for sprites: coordinates 0–100, drawn large and shrunk later for smooth edges."""

import numpy as np
from PIL import Image, ImageDraw

MASTER = 256
"""Side of a master sprite, pixels. Sprites shrink from here, which smooths their edges."""

RGB = tuple[int, int, int]
Length = float | int
"""A coordinate or length on the board."""
CLEAR = (0, 0, 0, 0)


def shade(colour: RGB, factor: float) -> RGB:
    """Darken (factor < 1) or lighten (factor > 1, towards white) a colour."""
    base = np.array(colour, dtype=float)
    out = base * factor if factor <= 1 else base + (255 - base) * (factor - 1)
    r, g, b = (round(float(v)) for v in np.clip(out, 0, 255))
    return r, g, b


class Pen:
    """Draws shapes on a transparent square; x to the right, y down, both 0–100."""

    def __init__(self):
        self.image = Image.new("RGBA", (MASTER, MASTER), CLEAR)
        self._draw = ImageDraw.Draw(self.image)

    @staticmethod
    def _px(points) -> list[tuple[float, float]]:
        return [(x * MASTER / 100, y * MASTER / 100) for x, y in points]

    def _width(self, width: Length) -> int:
        return max(1, round(width * MASTER / 100))

    def oval(
        self, x: Length, y: Length, rx: Length, ry: Length, fill, edge=None, width: Length = 2.5
    ) -> None:
        """An ellipse round (x, y); `fill=None` draws the edge alone, `fill=CLEAR` cuts a hole."""
        box = self._px([(x - rx, y - ry), (x + rx, y + ry)])
        self._draw.ellipse(box, fill=fill, outline=edge, width=self._width(width) if edge else 0)

    def box(self, left, top, right, bottom, fill, edge=None, radius: Length = 0, width: Length = 2.5) -> None:
        """A rectangle with rounded corners."""
        self._draw.rounded_rectangle(
            self._px([(left, top), (right, bottom)]),
            radius=self._width(radius) if radius else 0,
            fill=fill,
            outline=edge,
            width=self._width(width) if edge else 0,
        )

    def shape(self, points, fill, edge=None, width: Length = 2.5) -> None:
        """A polygon."""
        self._draw.polygon(self._px(points), fill=fill)
        if edge:
            self._draw.line(
                self._px([*points, points[0]]), fill=edge, width=self._width(width), joint="curve"
            )

    def stroke(self, points, colour, width: Length) -> None:
        """A line with round ends."""
        pixels, w = self._px(points), self._width(width)
        self._draw.line(pixels, fill=colour, width=w, joint="curve")
        for x, y in (pixels[0], pixels[-1]):
            self._draw.ellipse([x - w / 2, y - w / 2, x + w / 2, y + w / 2], fill=colour)

    def arc(self, x, y, rx, ry, start, end, colour, width: Length) -> None:
        """A piece of an ellipse, angles in degrees, clockwise from the right."""
        box = self._px([(x - rx, y - ry), (x + rx, y + ry)])
        self._draw.arc(box, start, end, fill=colour, width=self._width(width))

    def slice(self, x, y, rx, ry, start, end, fill) -> None:
        """A filled piece of an ellipse, closed by a straight line."""
        box = self._px([(x - rx, y - ry), (x + rx, y + ry)])
        self._draw.chord(box, start, end, fill=fill)
