"""The images of cases, as a casebook keeps them."""

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from emma_viz.data.images import ImageSource, image_hash, read_image
from emma_viz.errors import ImageError

THUMBNAIL = 320
"""The longer side of a small picture, pixels."""
LARGEST_PICTURE = 32 * 2**20
"""Bytes of a kept file; what is larger as it came is kept as PNG, and refused if that is larger, too."""
MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg"}
"""Pillow's name of a format in which images are kept → its media type."""


@dataclass(frozen=True, kw_only=True)
class CasePicture:
    """One image, ready to be kept."""

    hash: str
    """`image_hash` of the upright RGB image."""
    media_type: str
    """One of `MEDIA_TYPES`."""
    width: int
    """Pixels of the upright image."""
    height: int
    """Pixels."""
    content: bytes
    """A PNG or JPEG file."""
    thumbnail: bytes
    """A WebP of at most `THUMBNAIL` pixels a side."""

    def __post_init__(self):
        sides = (self.width, self.height)
        if self.media_type not in MEDIA_TYPES.values() or not all(
            type(side) is int and side > 0 for side in sides
        ):
            raise ImageError(
                f"expected {' or '.join(MEDIA_TYPES.values())} of some pixels, got {self.media_type!r:.60} of "
                f"{self.width!r:.20} × {self.height!r:.20}."
            )

    def image(self) -> Image.Image:
        """The image, decoded: RGB, upright.

        Raises:
            ImageError: a stranger's casebook holds something else, or an image that is too large.
        """
        try:
            with Image.open(io.BytesIO(self.content), formats=tuple(MEDIA_TYPES)) as opened:
                return read_image(opened)
        except (OSError, ValueError, Image.DecompressionBombError) as failure:
            if isinstance(failure, ImageError):
                raise
            raise ImageError(f"the image {self.hash[:16]!r} of the casebook cannot be decoded.") from failure


def case_picture(source: ImageSource) -> CasePicture:
    """Read an image, and make what is kept of it.

    A PNG or JPEG file is kept byte for byte, unless it has to be turned upright; all else becomes a PNG.

    Raises:
        ImageError: it cannot be read, or is larger than a casebook keeps.
    """
    image = read_image(source)
    kept = _as_it_is(source, image)
    content, kind = kept if kept is not None else (_png(image), "PNG")
    if len(content) > LARGEST_PICTURE:
        raise ImageError(
            f"expected an image of at most {LARGEST_PICTURE // 2**20} MB as PNG, got {len(content) / 2**20:.0f} MB; "
            "make it smaller."
        )
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL), reducing_gap=2.0)
    file = io.BytesIO()
    small.save(file, "WEBP", quality=80)
    return CasePicture(
        hash=image_hash(image),
        media_type=MEDIA_TYPES[kind],
        width=image.width,
        height=image.height,
        content=content,
        thumbnail=file.getvalue(),
    )


def _as_it_is(source: ImageSource, image: Image.Image) -> tuple[bytes, str] | None:
    """The file's bytes and format, where a browser shows the same picture as `read_image` gives."""
    if not isinstance(source, str | Path):
        return None
    path = Path(source)
    if path.stat().st_size > LARGEST_PICTURE:
        return None
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as opened:
        plain = opened.format in MEDIA_TYPES and opened.mode == "RGB" and opened.size == image.size
        frames = getattr(opened, "n_frames", 1)
        plain = plain and frames == 1 and not opened.info.keys() & {"icc_profile", "exif", "transparency"}
        return (content, str(opened.format)) if plain else None


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
