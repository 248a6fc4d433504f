"""Images as they come from users, and as the model sees them.

`read_image` is the one door: whatever comes in leaves as a PIL image in RGB, upright, or as an ImageError.
`ImageTransform` is the preprocessing of the released models; its `geometry` is the exact way back.
"""

import hashlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor

from emma_viz.data.geometry import Geometry
from emma_viz.errors import ImageError, InputError

logger = logging.getLogger(__name__)

MAX_PIXELS = 120_000_000
"""The largest image that is decoded: a 108-megapixel photo passes, a decompression bomb does not."""

MAX_PADDED = 2_000_000_000
"""The largest square that letterbox pads to, pixels: each of them is worked on, seconds for so many."""

ImageSource = str | Path | Image.Image | np.ndarray

_COLOUR = 4
"""Bytes that Pillow keeps for a pixel of RGB, and of most modes."""
_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""Bytes for a pixel of the others."""
_DECODED = {"WEBP": 8, "AVIF": 8, "JPEG2000": 16, "ICNS": 16, "ICO": 4, "TIFF": 4}
"""Bytes for a pixel that decoders need beside the result because they decode a picture as a whole."""
# Drawings that Pillow hands to an external program to draw.
_DRAWINGS = {"EPS", "WMF"}


def read_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read an image from a file, a PIL image or an array.

    The EXIF rotation is applied. Grey, 16-bit grey, palette and CMYK images become RGB; the first frame of an
    animation is taken. Transparent parts are laid on white (the released code drops the alpha channel, which
    uncovers whatever colours lie hidden under it); the log says so.

    Args:
        source: a path, a PIL image, or an array (H, W), (H, W, 1|3|4): bytes, booleans, 16-bit unsigned
            integers, or floats in [0, 1].
        max_pixels: larger images are refused before they are decoded; also those that take more memory than RGB of
            that many pixels: half as many where another mode is converted or the EXIF rotation is applied.

    Returns:
        a PIL image in mode RGB, upright.

    Raises:
        ImageError: there is no such file, it is no image, it is damaged, empty or too large.
    """
    if isinstance(source, np.ndarray):
        return _finish(_from_array(source), f"the array of shape {source.shape}", max_pixels)
    if isinstance(source, Image.Image):
        return _finish(source, "the image", max_pixels)
    if not isinstance(source, str | Path):
        raise ImageError(f"expected a path, a PIL image or an array, got {type(source).__name__}")
    if str(source).startswith(("http://", "https://")):
        raise ImageError(f"{source} is a web address: download the image and give the file's path")
    path = Path(source).expanduser()
    if path.is_dir():
        raise ImageError(f"{path} is a folder: give the path of an image file")
    if not path.exists():
        raise ImageError(f"there is no file {path}")
    if not path.is_file():
        raise ImageError(f"{path} is not a regular file: give the path of an image file")
    try:
        if not path.stat().st_size:
            raise ImageError(f"{path} is empty (0 bytes): no image in it")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels decides
            image = Image.open(path)
    except UnidentifiedImageError:
        raise ImageError(
            f"{path} is not an image that can be read (PNG, JPEG, WebP, TIFF, GIF, BMP …)"
        ) from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path} is too large to be decoded safely: {error}") from error
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from error
    except ImageError:
        raise
    except Exception as error:  # of a header: see _finish
        raise ImageError(f"{path} is damaged and cannot be read: {error}") from error
    with image:
        if image.format in _DRAWINGS:
            raise ImageError(f"{path} is a {image.format} drawing: convert it to PNG first")
        return _finish(image, str(path), max_pixels)


def image_hash(image: Image.Image) -> str:
    """The SHA-256 of an RGB image's size and pixels, in hexadecimal."""
    digest = hashlib.sha256(f"{image.width}x{image.height}:{image.mode}:".encode())
    # In strips, so that nothing of the size of the image is made beside it.
    rows = max(1, 2**22 // max(1, image.width))
    for top in range(0, image.height, rows):
        digest.update(image.crop((0, top, image.width, min(top + rows, image.height))).tobytes())
    return digest.hexdigest()


def _finish(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    """Check the size, decode, turn upright, convert to RGB."""
    width, height = image.size
    if not width or not height:
        raise ImageError(f"{name} has no pixels ({width}×{height})")
    if width * height > max_pixels:
        raise ImageError(
            f"{name} has {width}×{height} pixels, more than the limit of {max_pixels:,}: "
            "make it smaller, or raise max_pixels"
        )
    try:
        plain = image.mode == "RGB" and not image.has_transparency_data
        stored = _STORED.get(image.mode, _COLOUR) + (0 if plain else _COLOUR)
        _require_room(image, name, stored + _DECODED.get(image.format or "", 0), max_pixels)
        image.load()
        if turned := image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9):
            _require_room(image, name, stored + _COLOUR, max_pixels)
        # Without need, neither makes another copy of what may be hundreds of megabytes.
        upright = ImageOps.exif_transpose(image) if turned else image
        if not plain:
            return _to_rgb(upright, name)
        return upright if turned or isinstance(image, ImageFile.ImageFile) else image.copy()
    except ImageError:
        raise
    # Damaged files make Pillow's decoders raise almost anything (OSError, SyntaxError, struct.error, …).
    except Exception as error:
        raise ImageError(f"{name} is damaged or truncated and cannot be decoded: {error}") from error


def _require_room(image: Image.Image, name: str, each: int, max_pixels: int) -> None:
    """Refuse what takes more memory than RGB of the largest size does."""
    needed, most = image.width * image.height * each, max_pixels * _COLOUR
    if needed > most:
        raise ImageError(
            f"{name} has {image.width}×{image.height} pixels of mode {image.mode}: it takes {needed / 1e6:.0f} MB to "
            f"read, more than the limit of {most / 1e6:.0f} MB: make it smaller, save it upright and as RGB, or raise "
            "max_pixels"
        )


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Convert any mode to RGB, transparent parts on white; in strips, to need little more than the result."""
    deep = image.mode.startswith("I") or image.mode == "F"
    if deep:
        _require_grey(image, name)
    out, uncovered = Image.new("RGB", image.size), False
    for box in _strips(image.size):
        strip = image.crop(box)
        if deep:
            part = _from_deep_grey(np.asarray(strip))
        elif not image.has_transparency_data:
            part = strip.convert("RGB")
        else:
            # Premultiplied modes only convert to their plain counterpart.
            rgba = strip.convert({"La": "LA", "RGBa": "RGBA"}.get(strip.mode, strip.mode)).convert("RGBA")
            uncovered = uncovered or rgba.getchannel("A").getextrema() != (255, 255)
            part = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
        out.paste(part, box)
    if uncovered:
        logger.warning("%s has transparent parts: they are laid on white", name)
    return out


def _strips(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Boxes (left, upper, right, lower) that cover an image from top to bottom."""
    width, height = size
    rows = max(1, 2**22 // width)
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)


def _require_grey(image: Image.Image, name: str) -> None:
    """Refuse deep grey values that have no place between black and white."""
    ends = [(part.min(), part.max()) for part in (np.asarray(image.crop(box)) for box in _strips(image.size))]
    low, high = float(np.min(ends)), float(np.max(ends))
    top = _top(image.mode)
    if not (low >= 0 and high <= top):  # also true of NaN
        raise ImageError(f"{name} has grey values from {low:g} to {high:g}: expected 0 to {top:g}")


def _top(mode: str) -> float:
    """White, in 16-bit grey or float grey."""
    return 1.0 if mode == "F" else 65535.0


def _from_deep_grey(values: np.ndarray) -> Image.Image:
    """16-bit grey in 0 … 65535, or float grey in 0 … 1, to RGB."""
    top = _top("F" if np.issubdtype(values.dtype, np.floating) else "I")
    grey = np.rint(values * np.float32(255 / top)).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _from_array(values: np.ndarray) -> Image.Image:
    """Bytes, booleans, 16-bit integers or floats in [0, 1] to a PIL image."""
    name = f"the array of shape {values.shape}"
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim != 2 and not (values.ndim == 3 and values.shape[2] in (3, 4)):
        raise ImageError(f"{name} is no image: expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)")
    if not values.size:
        raise ImageError(f"{name} has no pixels")
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * 255
    elif values.dtype == np.uint16:
        values = np.rint(values / np.float32(257)).astype(np.uint8)
    elif np.issubdtype(values.dtype, np.floating):
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):  # also true of NaN
            raise ImageError(f"{name} has floats from {low:g} to {high:g}: expected [0, 1]")
        values = np.rint(values.astype(np.float32) * 255).astype(np.uint8)
    elif values.dtype != np.uint8:
        raise ImageError(
            f"{name} has the type {values.dtype}: expected uint8, uint16, bool or floats in [0, 1]"
        )
    return Image.fromarray(np.ascontiguousarray(values))


@dataclass(frozen=True, kw_only=True)
class TowerNorm:
    """What one vision tower subtracts and divides by, per channel, for pixels in [0, 1]."""

    name: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def fill(self) -> tuple[int, int, int]:
        """The padding of letterbox: the mean colour in bytes, rounded down as in the released code."""
        red, green, blue = (int(value * 255) for value in self.mean)
        return red, green, blue


@dataclass(frozen=True, kw_only=True)
class ImageTransform:
    """The released models' preprocessing: resize to S×S (bicubic, antialiased), then normalise per tower.

    Resampling is Pillow's, as torchvision's Resize does on PIL images; `geometry.plan` has the strategies.
    """

    strategy: str
    """One of geometry.STRATEGIES."""
    size: int
    """S, the side of the model's input, pixels."""
    patch: int
    """p, the side of a patch, pixels."""
    towers: tuple[TowerNorm, ...]
    """The vision towers, in the order in which their features are concatenated."""

    def __post_init__(self):
        if not self.towers:
            raise InputError("an image transform needs at least one vision tower")
        Geometry(image_size=(self.size, self.size), strategy=self.strategy, size=self.size, patch=self.patch)

    @property
    def grid(self) -> tuple[int, int]:
        """(R, C), rows and columns of patches."""
        return self.size // self.patch, self.size // self.patch

    def geometry(self, image: Image.Image) -> Geometry:
        """The map between this image's tokens and its pixels."""
        return Geometry(image_size=image.size, strategy=self.strategy, size=self.size, patch=self.patch)

    def view(self, image: Image.Image) -> Image.Image:
        """The S×S image the model sees, before the normalisation.

        With letterbox each tower pads with its own mean colour; this shows the first tower's.
        """
        return self._view(image, self.towers[0].fill)

    def pixels(self, images: Sequence[Image.Image]) -> tuple[Float[Tensor, "B 3 S S"], ...]:
        """The normalised input of each tower, float32."""
        if not images:
            raise InputError("expected at least one image")
        views: dict[tuple[int, int, int], Tensor] = {}
        out = []
        for tower in self.towers:
            # Only letterbox shows the towers different images.
            fill = tower.fill if self.strategy == "letterbox" else (0, 0, 0)
            if fill not in views:
                raw = np.stack([np.asarray(self._view(image, fill)) for image in images])
                views[fill] = rearrange(torch.from_numpy(raw), "B i j c -> B c i j").float() / 255
            out.append((views[fill] - _channels(tower.mean)) / _channels(tower.std))
        return tuple(out)

    def _view(self, image: Image.Image, fill: tuple[int, int, int]) -> Image.Image:
        if image.mode != "RGB":
            raise ImageError(f"expected an RGB image, got mode {image.mode}: open it with read_image")
        x, y = self.geometry(image).axes
        longest = max(x.padded, y.padded, x.resized, y.resized)
        if longest * self.size > MAX_PIXELS or x.padded * y.padded > MAX_PADDED:
            raise ImageError(
                f"an image of {image.width}×{image.height} pixels is too long and narrow for "
                f"{self.strategy}: crop it first"
            )
        if x.pad or y.pad:
            resized = _resize_padded(image, x.pad, y.pad, (x.resized, y.resized), fill)
        else:
            resized = image.resize((x.resized, y.resized), Image.Resampling.BICUBIC)
        return resized.crop((x.crop, y.crop, x.crop + self.size, y.crop + self.size))


def _channels(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None, None]


def _resize_padded(
    image: Image.Image, pad_x: int, pad_y: int, size: tuple[int, int], fill: tuple[int, int, int]
) -> Image.Image:
    """Pad both sides of each axis, then resize: byte for byte, without the padded square in memory.

    Pillow resizes rows first, then columns, so strips of rows may be done one after another.
    """
    width, height = size
    narrow = Image.new("RGB", (width, image.height + 2 * pad_y), fill)
    strip = max(1, MAX_PIXELS // (8 * (image.width + 2 * pad_x)))
    for top in range(0, image.height, strip):
        rows = image.crop((0, top, image.width, min(top + strip, image.height)))
        if pad_x:
            wide = Image.new("RGB", (image.width + 2 * pad_x, rows.height), fill)
            wide.paste(rows, (pad_x, 0))
            rows = wide
        narrow.paste(rows.resize((width, rows.height), Image.Resampling.BICUBIC), (0, pad_y + top))
    return narrow.resize((width, height), Image.Resampling.BICUBIC)
