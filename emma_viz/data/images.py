"""Images as they come from users, and as the model sees them.

`read_image` is the one door: whatever comes in leaves as a PIL image in RGB, upright, or as an ImageError.
`ImageTransform` is the preprocessing of the released models; its `geometry` is the exact way back.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from emma_viz.data.geometry import Geometry
from emma_viz.data.grey import dark, grey_of
from emma_viz.data.image_files import MAX_PIXELS, check_memory, check_size, open_image, strips
from emma_viz.data.labels import ImageLabel, label_of, labelled
from emma_viz.data.profiles import ignored, to_srgb
from emma_viz.errors import ImageError, InputError
from emma_viz.files.named import is_web_address, named_path

logger = logging.getLogger(__name__)

MAX_PADDED = 2_000_000_000
"""The largest square that letterbox pads to, pixels: each of them is worked on, seconds for so many."""

ImageSource = str | Path | Image.Image | np.ndarray


def read_image(
    source: ImageSource, *, max_pixels: int = MAX_PIXELS, convert_profile: bool = False
) -> Image.Image:
    """Read an image from a file, a PIL image or an array.

    The EXIF rotation is applied. Grey, 16-bit grey, palette and CMYK images become RGB; the first frame of an
    animation is taken. Transparent parts are laid on white (the released code drops the alpha channel, which
    uncovers whatever colours lie hidden under it), and a colour profile is ignored, as in the released code. Such
    things are logged, and `label_of` the result holds them, with the file's name.

    Args:
        source: a path, a PIL image, or an array (H, W), (H, W, 1|3|4): bytes, booleans, 16-bit unsigned
            integers, or floats in [0, 1].
        max_pixels: larger images are refused before they are decoded; also those that take more memory than RGB of
            that many pixels: half as many where another mode is converted or the EXIF rotation is applied.
        convert_profile: convert an image with a colour profile to sRGB instead.

    Returns:
        a PIL image in mode RGB, upright.

    Raises:
        ImageError: there is no such file, it is no image, it is damaged, empty or too large.
    """
    if isinstance(source, np.ndarray):
        name = f"the array of shape {source.shape}"
        return _finish(_from_array(source, name), name, max_pixels, convert_profile, ours=True)
    if isinstance(source, Image.Image):
        return _finish(source, "the image", max_pixels, convert_profile, ours=False)
    if not isinstance(source, str | Path):
        raise ImageError(f"expected a path, a PIL image or an array, got {type(source).__name__}")
    if is_web_address(source):
        raise ImageError(f"{source} is a web address: download the image and give the file's path")
    with open_image(named_path(source), max_pixels) as image:
        return _finish(image, str(source), max_pixels, convert_profile, ours=True)


def image_hash(image: Image.Image) -> str:
    """The SHA-256 of an RGB image's size and pixels, in hexadecimal."""
    digest = hashlib.sha256(f"{image.width}x{image.height}:{image.mode}:".encode())
    # In strips, so that nothing of the size of the image is made beside it.
    for _, strip in strips(image):
        digest.update(strip.tobytes())
    return digest.hexdigest()


def _finish(
    image: Image.Image, name: str, max_pixels: int, convert_profile: bool, *, ours: bool
) -> Image.Image:
    """Check the size, decode, turn upright, convert to RGB, and write down what was done.

    An image that is not ours stays as it is, and what comes out shares nothing with it.
    """
    check_size(image, name, max_pixels)
    label = label_of(image)
    profile = image.info.get("icc_profile")
    tags = getattr(image, "tag_v2", {})  # lost when the image is turned
    try:
        converts = image.mode != "RGB" or image.has_transparency_data or bool(profile and convert_profile)
        check_memory(image, name, max_pixels, copies=int(converts), decoded=False)
        image.load()
        if turned := image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9):
            check_memory(image, name, max_pixels, copies=1 + converts, decoded=True)
        # Without need, neither makes another copy of what may be hundreds of megabytes.
        upright = ImageOps.exif_transpose(image) if turned else image
        upright, notes = to_srgb(upright, profile) if convert_profile else (upright, ignored(profile))
        if upright.mode != "RGB" or upright.has_transparency_data:
            found, more = _to_rgb(upright, name, tags)
        else:
            found, more = upright if ours or upright is not image else upright.copy(), ()
    except ImageError:
        raise
    # Damaged files make Pillow's decoders raise almost anything (OSError, SyntaxError, struct.error, …).
    except Exception as error:
        raise ImageError(f"{name} is damaged or truncated and cannot be decoded: {error}") from error
    notes = (*notes, *more)
    for note in notes:
        logger.warning("%s: %s", name, note)
    return labelled(found, replace(label, notes=(*label.notes, *notes)))


def _to_rgb(image: Image.Image, name: str, tags: Mapping) -> tuple[Image.Image, tuple[str, ...]]:
    """Convert any mode to RGB, transparent parts on white, in strips; and what to say of it."""
    deep = image.mode.startswith("I") or image.mode == "F"
    grey = grey_of(image, name, tags) if deep else None
    out, uncovered = Image.new("RGB", image.size), False
    for box, strip in strips(image):
        if grey is not None:
            values = np.asarray(strip)
            uncovered = uncovered or (grey.clear is not None and bool((values == grey.clear).any()))
            part = Image.fromarray(grey.to_bytes(values)).convert("RGB")
        elif not image.has_transparency_data:
            part = strip.convert("RGB")
        else:
            # Premultiplied modes only convert to their plain counterpart.
            rgba = strip.convert({"La": "LA", "RGBa": "RGBA"}.get(strip.mode, strip.mode)).convert("RGBA")
            uncovered = uncovered or rgba.getchannel("A").getextrema() != (255, 255)
            part = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
        out.paste(part, box)
    return out, (*(grey.notes if grey else ()), *((_ON_WHITE,) * uncovered))


_ON_WHITE = "it has transparent parts: they are laid on white"


def _from_array(values: np.ndarray, name: str) -> Image.Image:
    """Bytes, booleans, 16-bit integers or floats in [0, 1] to a PIL image."""
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim != 2 and not (values.ndim == 3 and values.shape[2] in (3, 4)):
        raise ImageError(f"{name} is no image: expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)")
    if not values.size:
        raise ImageError(f"{name} has no pixels")
    notes: tuple[str, ...] = ()
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * 255
    elif values.dtype == np.uint16:
        notes = dark(float(values.max()))
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
    for note in notes:
        logger.warning("%s: %s", name, note)
    return labelled(Image.fromarray(np.ascontiguousarray(values)), ImageLabel(notes=notes))


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
        """The normalised input of each tower, float32.

        Raises:
            InputError: there is no image.
            ImageError: an image is not RGB, or too long and narrow.
        """
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
                f"{label_of(image).name or 'an image'} of {image.width}×{image.height} pixels is too long and "
                f"narrow for {self.strategy}: crop it first"
            )
        if x.pad or y.pad:
            resized = _resize_padded(image, x.pad, y.pad, (int(x.resized), int(y.resized)), fill)
        else:
            resized = image.resize((int(x.resized), int(y.resized)), Image.Resampling.BICUBIC)
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
