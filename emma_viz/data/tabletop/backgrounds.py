"""What the objects lie on: plain, gradient, wood, checked cloth, or a piece of a photograph."""

import colorsys
from functools import cache
from importlib.resources import files
from itertools import pairwise

import numpy as np
from PIL import Image

PHOTOS = (
    "rocket.jpg",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "retina.jpg",
    "brick.png",
    "grass.png",
    "gravel.png",
    "camera.png",
    "coins.png",
    "cell.png",
    "moon.png",
    "page.png",
    "text.png",
    "clock_motion.png",
)
"""Photographs that ship inside scikit-image's wheel. Its coffee, astronaut and cat are kept out: those are for
showing what was not trained on."""

WEIGHTS = {"solid": 0.12, "gradient": 0.15, "wood": 0.18, "checker": 0.15, "photo": 0.40}
"""Background → its share of the scenes."""


@cache
def _photo(name: str) -> np.ndarray:
    with Image.open(str(files("skimage.data") / name)) as image:
        return np.asarray(image.convert("RGB"))


def draw_background(kind: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw one background.

    Args:
        kind: a key of WEIGHTS.
        size: side, pixels.
        rng: the scene's generator; the same state gives the same background.

    Returns:
        float32 (size, size, 3) in [0, 1].
    """
    return np.clip(_DRAW[kind](size, rng), 0, 1).astype(np.float32)


def _tint(rng: np.random.Generator, saturation=(0.1, 0.75), value=(0.3, 0.95)) -> np.ndarray:
    return np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value)))


def _solid(size: int, rng: np.random.Generator) -> np.ndarray:
    grain = rng.normal(0, 0.008, (size, size, 1))
    return np.broadcast_to(_tint(rng), (size, size, 3)) + grain


def _gradient(size: int, rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:size, 0:size] / (size - 1) - 0.5
    t = np.clip(0.5 + (x * np.cos(angle) + y * np.sin(angle)), 0, 1)[..., None]
    first = _tint(rng)
    return first * (1 - t) + np.clip(first * rng.uniform(0.45, 1.5) + rng.normal(0, 0.06, 3), 0, 1) * t


def _wood(size: int, rng: np.random.Generator) -> np.ndarray:
    base = np.array(
        colorsys.hsv_to_rgb(rng.uniform(0.04, 0.1), rng.uniform(0.35, 0.75), rng.uniform(0.4, 0.85))
    )
    planks = int(rng.integers(3, 7))
    edges = np.linspace(0, size, planks + 1).astype(int)
    rows, columns = np.mgrid[0:size, 0:size].astype(float)
    shade = np.zeros((size, size))
    for top, bottom in pairwise(edges):
        wave = rng.uniform(0.4, 1.2) * np.sin(columns[top:bottom] / rng.uniform(14, 40) + rng.uniform(0, 6))
        rings = np.sin((rows[top:bottom] + 2.2 * wave) * rng.uniform(0.7, 1.6) + rng.uniform(0, 6))
        shade[top:bottom] = rng.normal(0, 0.06) + 0.045 * rings
        shade[top : top + 1] -= 0.22
    shade += rng.normal(0, 0.014, (size, size))
    wood = base * (1 + shade[..., None])
    return wood.transpose(1, 0, 2) if rng.random() < 0.3 else wood


def _checker(size: int, rng: np.random.Generator) -> np.ndarray:
    cell = int(rng.integers(9, 26))
    shift = rng.integers(0, cell, 2)
    y, x = np.mgrid[0:size, 0:size]
    odd = (((y + shift[0]) // cell + (x + shift[1]) // cell) % 2)[..., None]
    light = _tint(rng, saturation=(0.1, 0.7), value=(0.55, 1.0))
    return light * (1 - odd) + light * rng.uniform(0.55, 0.85) * odd


def _photo_crop(size: int, rng: np.random.Generator) -> np.ndarray:
    photo = _photo(PHOTOS[rng.integers(len(PHOTOS))])
    height, width = photo.shape[:2]
    side = int(min(height, width) * rng.uniform(0.35, 1.0))
    top, left = (int(rng.integers(0, n - side + 1)) for n in (height, width))
    crop = Image.fromarray(photo[top : top + side, left : left + side])
    pixels = np.asarray(crop.resize((size, size), Image.Resampling.BILINEAR), dtype=np.float32) / 255
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    gain = rng.uniform(0.75, 1.25, 3) if rng.random() < 0.65 else _tint(rng, value=(0.8, 1.0)) * 1.1
    return pixels * gain + rng.normal(0, 0.03, 3)


_DRAW = {"solid": _solid, "gradient": _gradient, "wood": _wood, "checker": _checker, "photo": _photo_crop}
