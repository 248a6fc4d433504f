"""Image files, judged by their headers: a budget of bytes and pixels, and what to do about a file that is no use."""

import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from emma_viz.errors import ImageError

MAX_PIXELS = 120_000_000
"""The largest image that is decoded: a 108-megapixel photo passes, a decompression bomb does not."""

_MAX_BYTES = 2**30
"""The largest image file that is opened."""

_DRAWINGS = {"EPS", "WMF"}
"""Drawings that Pillow hands to an external program to draw."""

_APPLE = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Brands of HEIF files, which Pillow does not read."""

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_COLOUR = 4
"""Bytes that Pillow keeps for a pixel of RGB, and of most modes."""
_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""Bytes for a pixel of the others."""
_DECODED = {"WEBP": 8, "AVIF": 8, "JPEG2000": 16, "ICNS": 16, "ICO": 4, "TIFF": 4}
"""Bytes for a pixel that decoders need beside the result because they decode a picture as a whole."""

_TEXT = "Decompressed data too large", "Too much memory used in text chunks"
"""How Pillow says that a PNG's compressed text or colour profile is a bomb."""


def open_image(path: Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open an image file and read its header; nothing is decoded yet.

    Raises:
        ImageError: there is no such file, it is no image, or its size or number of pixels is over the limit.
    """
    if path.is_dir():
        raise ImageError(f"{path} is a folder: give the path of an image file")
    if not path.exists():
        raise ImageError(f"there is no file {path}")
    if not path.is_file():
        raise ImageError(f"{path} is not a regular file: give the path of an image file")
    try:
        size = path.stat().st_size
        if not size:
            raise ImageError(f"{path} is empty (0 bytes): no image in it")
        if size > _MAX_BYTES:
            raise ImageError(
                f"{path} has {size:,} bytes, more than the limit of {_MAX_BYTES:,}: make it smaller"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels decides
            image = Image.open(path)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{path} {_why_not(path)}") from None
    except Image.DecompressionBombError:
        raise ImageError(
            f"{path} has more than the limit of {max_pixels:,} pixels: make it smaller"
        ) from None
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from error
    # A damaged header makes Pillow's readers raise almost anything.
    except Exception as error:
        raise ImageError(f"{path} {_what(error)}") from error
    if image.format in _DRAWINGS:
        image.close()
        raise ImageError(f"{path} is a {image.format} drawing: convert it to PNG first")
    return image


def check_size(image: Image.Image, name: str, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse an image by its size alone.

    Raises:
        ImageError: it has no pixels, or more than `max_pixels`.
    """
    width, height = image.size
    if not width or not height:
        raise ImageError(f"{name} has no pixels ({width}×{height})")
    if width * height > max_pixels:
        raise ImageError(
            f"{name} has {width}×{height} pixels, more than the limit of {max_pixels:,}: make it smaller"
        )


def check_memory(image: Image.Image, name: str, max_pixels: int, *, copies: int, decoded: bool) -> None:
    """Refuse an image that takes more memory to read than RGB of the largest size does.

    Args:
        image: opened.
        copies: how many more pictures in RGB are made of it at a time.
        decoded: whether its decoder has done its work, and needs no memory any more.

    Raises:
        ImageError: it takes more.
    """
    each = _STORED.get(image.mode, _COLOUR) + copies * _COLOUR
    each += 0 if decoded else _DECODED.get(image.format or "", 0)
    needed, most = image.width * image.height * each, max_pixels * _COLOUR
    if needed > most:
        raise ImageError(
            f"{name} has {image.width}×{image.height} pixels of mode {image.mode}: it takes {needed / 1e6:.0f} MB to "
            f"read, more than the limit of {most / 1e6:.0f} MB: make it smaller, or save it upright and as RGB"
        )


def strips(image: Image.Image) -> Iterator[tuple[tuple[int, int, int, int], Image.Image]]:
    """An image in strips from top to bottom: the box (left, upper, right, lower) of each, and its part."""
    width, height = image.size
    rows = max(1, 2**22 // width)
    for top in range(0, height, rows):
        box = (0, top, width, min(top + rows, height))
        yield box, image.crop(box)


def _what(error: Exception) -> str:
    if any(words in str(error) for words in _TEXT):
        return "holds compressed text or a colour profile of more than 1 MB: save it again without metadata"
    return f"is damaged or truncated and cannot be decoded: {error}"


def _why_not(path: Path) -> str:
    """Why Pillow knows no reader for a file, from its first bytes."""
    with path.open("rb") as stream:
        head = stream.read(64)
    if head[4:8] == b"ftyp" and head[8:12] in _APPLE:
        return (
            "is an HEIC image, which cannot be read: save it as JPEG or PNG first (on a Mac: sips -s format jpeg "
            "FILE --out FILE.jpg; elsewhere: heif-convert FILE FILE.jpg)"
        )
    if head[:4] in _TIFF:
        return f"is a TIFF of a kind that cannot be read{_samples(path, head)}: save it with 8 bits a channel first"
    return "is not an image that can be read (PNG, JPEG, WebP, TIFF, GIF, BMP …)"


def first(value: object) -> object:
    """The value of a TIFF tag that may hold several, the first of them."""
    return value[0] if isinstance(value, tuple) and value else value


def _samples(path: Path, head: bytes) -> str:
    """The samples of a TIFF in words, such as ` (3 samples of 32-bit floats)`; nothing where they cannot be read."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    try:
        with path.open("rb") as stream:
            tags = ImageFileDirectory_v2(head[:8])
            stream.seek(tags.next)
            tags.load(stream)
        bits, kind = first(tags.get(258, 1)), first(tags.get(339, 1))
        word = {1: "unsigned integers", 2: "signed integers", 3: "floats"}.get(
            kind, "numbers of an unknown kind"
        )
        return f" ({tags.get(277, 1)} samples of {bits}-bit {word})"
    except (struct.error, OSError, ValueError, KeyError, TypeError, IndexError, SyntaxError, EOFError):
        return ""
