"""Maps laid over images, in numpy and PIL."""

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from emma_viz.maps.scale import normalise
from emma_viz.render import colours
from emma_viz.render.spans import GridSpans

GREYING = 0.4
"""How far the image is turned to grey beneath a highlight, so that the map's colours stand out."""
LIGHTENING = 0.2
"""How far the image is lightened beneath a highlight, so that it stays readable in print."""
STRENGTH = 0.8
"""How far the highest value of a map replaces the image's colour by its own."""
MISSING = (215, 215, 215)
"""Grey of decoded pixels that are not finite."""
RISE = 0.8
"""Exponent of the value in its weight: below 1, middling values show more."""


def fit_image(image: UInt8[np.ndarray, "H W 3"], longest: int = 1024) -> UInt8[np.ndarray, "h w 3"]:
    """Shrink an image to a size that suits figures; a smaller one is returned as it is.

    Args:
        image: RGB.
        longest: the longer side of the result, pixels.

    Returns:
        The image in the same aspect (each side at least one pixel).
    """
    height, width = image.shape[:2]
    if max(height, width) <= longest:
        return image
    ratio = longest / max(height, width)
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _seen(rows: Int[np.ndarray, "H"], columns: Int[np.ndarray, "W"]) -> Bool[np.ndarray, "H W"]:
    """Which pixels some patch sees, from `GridSpans.cells_of_pixels`."""
    return (rows >= 0)[:, None] & (columns >= 0)[None, :]


def highlight(
    image: UInt8[np.ndarray, "H W 3"],
    values: Float[np.ndarray, "R C"],
    limits: tuple[float, float],
    spans: GridSpans,
    *,
    colormap: str = "viridis",
    strength: float = STRENGTH,
) -> UInt8[np.ndarray, "H W 3"]:
    """Tint each patch of an image towards its map colour, the more the higher its value.

    The image beneath is paler and greyer than the original, never darker: low patches stay readable, and
    high ones stand out by colour. Pixels that no patch sees, or whose value is NaN, are pale only.

    Args:
        image: RGB, in its true aspect.
        values: one raw value a patch.
        limits: lowest and highest value of the colour scale.
        spans: where the patches lie.
        colormap: one of `colours.COLORMAPS`.
        strength: the weight of the map's colour at the highest value, in [0, 1].
    """
    height, width = image.shape[:2]
    rows, columns = spans.cells_of_pixels((height, width))
    scaled = np.nan_to_num(normalise(values, np.array(limits)))
    tint = colours.paint(values, limits, colormap)[..., :3] / 255.0
    visible = _seen(rows, columns)[..., None]
    weight = np.where(visible, strength * scaled[rows][:, columns, None] ** RISE, 0.0)
    blended = pale(image) * (1 - weight) + tint[rows][:, columns] * weight
    return np.round(blended * 255).astype(np.uint8)


def to_bytes(
    pixels: Float[np.ndarray, "H W 3"], missing: tuple[int, int, int] = MISSING
) -> UInt8[np.ndarray, "H W 3"]:
    """Pixels in [0, 1] as bytes, clipped; those that are not finite take the colour `missing`."""
    finite = np.isfinite(pixels).all(axis=2, keepdims=True)
    scaled = np.rint(np.clip(np.nan_to_num(pixels.astype(np.float32)), 0, 1) * 255)
    return np.where(finite, scaled, np.array(missing, dtype=np.float32)).astype(np.uint8)


def pale(image: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W 3"]:
    """The greyer, lighter image beneath a highlight, in [0, 1]."""
    pixels = image / 255.0
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    muted = pixels * (1 - GREYING) + grey[..., None] * GREYING
    return muted * (1 - LIGHTENING) + LIGHTENING
