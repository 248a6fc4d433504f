"""Grey of more than 8 bits a pixel, as bytes: what its file says of white and black, and what has to be guessed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from emma_viz.data.image_files import first, strips
from emma_viz.errors import ImageError

_WHITE_IS_ZERO, _BITS, _LARGEST, _FORMAT = 262, 258, 281, 339
"""TIFF tags: PhotometricInterpretation (0 is white), BitsPerSample, MaxSampleValue, SampleFormat (2 is signed)."""


@dataclass(frozen=True, kw_only=True)
class Grey:
    """How the numbers of a deep grey image become bytes."""

    top: float
    """The number of full brightness."""
    inverted: bool
    """Whether 0 is white and `top` is black."""
    clear: int | None
    """The number of transparent pixels, which are laid on white."""
    notes: tuple[str, ...]
    """What was guessed."""

    def to_bytes(self, values: Shaped[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
        """Numbers as bytes, 0 for black."""
        scaled = np.rint(values * np.float32(255 / self.top))
        found = (255 - scaled if self.inverted else scaled).astype(np.uint8)
        if self.clear is not None:
            found[values == self.clear] = 255
        return found


def grey_of(image: Image.Image, name: str, tags: Mapping) -> Grey:
    """How a PIL image of mode I, I;16 or F becomes bytes; `tags` are those of its TIFF file, or none.

    White is what the file says (a TIFF's largest sample, a signed type), 65535, 1 for floats, or 255 for 32-bit
    integers that go no higher.

    Raises:
        ImageError: values lie outside of that, or are not finite.
    """
    ends = [(part.min(), part.max()) for part in (np.asarray(strip) for _, strip in strips(image))]
    low, high = float(np.min(ends)), float(np.max(ends))
    top, notes = _white(ends[0][0].dtype, high, tags)
    if not (low >= 0 and high <= top):  # also true of NaN
        raise ImageError(f"{name} has grey values from {low:g} to {high:g}: expected 0 to {top:g}")
    key = image.info.get("transparency")
    return Grey(
        top=top,
        inverted=tags.get(_WHITE_IS_ZERO) == 0,
        clear=key if isinstance(key, int) else None,
        notes=notes,
    )


def dark(high: float) -> tuple[str, ...]:
    """A note where 16 bits hold values of fewer, so that the image is nearly black."""
    if not 0 < high < 8192:
        return ()
    bits = int(high).bit_length()
    return (
        f"its grey values end at {high:.0f} of 65535 ({bits} of 16 bits), and it is shown as dark as that; scale "
        "the values first if it is not meant to be",
    )


def _white(kind: np.dtype, high: float, tags: Mapping) -> tuple[float, tuple[str, ...]]:
    """The value of full brightness, and what was guessed of it."""
    if np.issubdtype(kind, np.floating):
        return 1.0, ()
    declared = first(tags.get(_LARGEST))
    if isinstance(declared, int) and 255 < declared < 65535 and high <= declared:
        return float(declared), ()
    if first(tags.get(_FORMAT)) == 2 and first(tags.get(_BITS)) == 16:
        return 32767.0, ()
    if kind.itemsize > 2 and high <= 255:
        return 255.0, (f"its values are 32-bit integers up to {high:.0f}, and 255 is taken for white",)
    return 65535.0, dark(high)
