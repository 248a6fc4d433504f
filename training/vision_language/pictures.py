"""Image files as bytes and as pictures: read once, hashed and decoded."""

import hashlib
import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from emma_viz.data.images import read_image
from emma_viz.errors import ImageError


def content_hash(content: bytes) -> str:
    """What names an image file's content."""
    return hashlib.sha256(content).hexdigest()[:32]


def decoded(content: bytes, path: Path) -> Image.Image:
    """An image from the bytes of its file.

    Raises:
        ImageError: they are no image.
    """
    try:
        return read_image(Image.open(io.BytesIO(content)))
    except UnidentifiedImageError as error:  # Pillow's words name the object in memory.
        raise ImageError(
            f"{path} is no image that can be read: its bytes are those of no known format"
        ) from error
    except (Image.DecompressionBombError, OSError) as error:
        raise ImageError(f"{path} is no image that can be read: {error}") from error
