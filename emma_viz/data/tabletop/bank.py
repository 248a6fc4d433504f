"""The sprite bank: each kind in each colour, drawn once; the sizes and angles that were asked for last are kept."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageFilter

from emma_viz.data.tabletop import belongings, dishes
from emma_viz.data.tabletop.kinds import COLOURS
from emma_viz.data.tabletop.pen import RGB, Pen

DRAWINGS: dict[str, Callable[[Pen, RGB], None]] = {
    "cup": dishes.cup,
    "plate": dishes.plate,
    "bowl": dishes.bowl,
    "bottle": dishes.bottle,
    "teapot": dishes.teapot,
    "spoon": dishes.spoon,
    "fork": dishes.fork,
    "knife": dishes.knife,
    "pizza": dishes.pizza,
    "cake": dishes.cake,
    "donut": dishes.donut,
    "apple": dishes.apple,
    "banana": dishes.banana,
    "candle": belongings.candle,
    "flower": belongings.flower,
    "book": belongings.book,
    "pencil": belongings.pencil,
    "laptop": belongings.laptop,
    "phone": belongings.phone,
    "lamp": belongings.lamp,
    "clock": belongings.clock,
    "key": belongings.key,
    "hat": belongings.hat,
    "ball": belongings.ball,
}
"""Kind → the function that draws it."""

ANGLE_STEP = 15
"""Sprites are kept at multiples of this angle, degrees."""

KEPT = 1024
"""Sprites in memory, some 50 kB each; of all that there can be they are an eighth."""

SHADOW = 0.38
"""How much a shadow darkens what lies under it."""


@dataclass(frozen=True, kw_only=True)
class Sprite:
    """One object, ready to paste; arrays are read-only and square.

    Attributes:
        colour: uint8 (s, s, 3).
        alpha: float32 (s, s), coverage in [0, 1].
        shadow: float32 (s, s), what share of the light the shadow takes.
    """

    colour: np.ndarray
    alpha: np.ndarray
    shadow: np.ndarray


@cache
def _master(kind: str, colour: str) -> Image.Image:
    pen = Pen()
    DRAWINGS[kind](pen, COLOURS[colour] if colour else (0, 0, 0))
    return pen.image


@lru_cache(maxsize=KEPT)
def sprite(kind: str, colour: str, size: int, angle: int) -> Sprite:
    """One object at one size and angle, from the bank.

    Args:
        kind: name of a kind.
        colour: name of a colour, or "" for a kind that has one fixed look.
        size: side of the drawing before it is turned, pixels.
        angle: counter-clockwise, degrees.

    Returns:
        The sprite, with a margin for its turned corners and its shadow.
    """
    small = _master(kind, colour).resize((size, size), Image.Resampling.BOX)
    margin = int(size * 0.22) + 3
    canvas = Image.new("RGBA", (size + 2 * margin, size + 2 * margin), (0, 0, 0, 0))
    canvas.paste(small, (margin, margin))
    premultiplied = _turn(canvas, angle)
    alpha = premultiplied[..., 3:]
    colour_values = premultiplied[..., :3] / np.maximum(alpha, 1e-3)
    soft = Image.fromarray((alpha[..., 0] * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.4))
    shadow = np.roll(np.asarray(soft, dtype=np.float32) / 255, (2, 2), axis=(0, 1)) * SHADOW
    # A copy: a view would keep all four planes in memory.
    arrays = (np.clip(colour_values * 255, 0, 255).astype(np.uint8), alpha[..., 0].copy(), shadow)
    for array in arrays:
        array.setflags(write=False)
    return Sprite(colour=arrays[0], alpha=arrays[1], shadow=arrays[2])


def _turn(image: Image.Image, angle: int) -> np.ndarray:
    """Rotate with colours multiplied by coverage, so that edges take no colour from outside the shape."""
    rgba = np.asarray(image, dtype=np.float32) / 255
    rgba[..., :3] *= rgba[..., 3:]
    if angle % 360 == 0:
        return rgba
    planes = [
        np.asarray(Image.fromarray(plane).rotate(angle, Image.Resampling.BICUBIC), dtype=np.float32)
        for plane in np.ascontiguousarray(rgba.transpose(2, 0, 1))
    ]
    return np.clip(np.stack(planes, axis=-1), 0, 1)
