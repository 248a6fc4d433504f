"""What stands beside the arrays of a decoding that was put away, and the checks of both on the way back."""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from PIL import Image

from emma_viz.data.geometry import Geometry
from emma_viz.data.labels import ImageLabel
from emma_viz.errors import InputError
from emma_viz.lens.info import TAPS, Layer
from emma_viz.models.attention_sites import ALL_SITES
from emma_viz.shapes import CHANNELS

DECODING_SCHEMA = 2
"""Version of the arrays and meta of `Decoding.to_arrays`; 2 brought the controls of its lens."""


@dataclass(frozen=True, kw_only=True)
class DecodingNote:
    """The JSON object of `Decoding.to_arrays`.

    Raises:
        InputError: there is no such site, or a layer stands there twice.
    """

    schema: int
    layers: tuple[Layer, ...]
    site: str
    model: dict[str, Any]
    lens: dict[str, Any]
    geometry: Annotated[tuple[Geometry, ...], msgspec.Meta(min_length=1)]
    image_hashes: tuple[str, ...]
    prompts: tuple[str, ...]
    answers: tuple[str, ...]
    forced_reasons: tuple[str, ...]
    labels: tuple[ImageLabel, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        if self.site not in (*ALL_SITES, TAPS):
            raise InputError(f"{self.site[:100]!r} is no hook site")
        if len(set(self.layers)) != len(self.layers):
            raise InputError(f"a layer stands in {list(self.layers)[:100]} twice")


SAME = (
    "layers",
    "site",
    "geometry",
    "image_hashes",
    "prompts",
    "answers",
    "forced_reasons",
    "labels",
    "notes",
)
"""What stands in the JSON object as a decoding has it."""


def require_shapes(known: DecodingNote, patches: np.ndarray, views: np.ndarray) -> None:
    """Refuse arrays that are not those of the images that are described."""
    first, batch = known.geometry[0], len(known.geometry)
    if any((each.size, each.patch) != (first.size, first.patch) for each in known.geometry):
        raise InputError("A decoding has views of one size and patch; its images have several.")
    expected = (len(known.layers), batch, first.n_tokens, first.patch, first.patch, CHANNELS)
    if patches.dtype.kind != "f" or patches.shape != expected:
        raise InputError(
            f"Expected patches of floats and shape {expected}, got {patches.dtype} {patches.shape}."
        )
    expected = (batch, first.size, first.size, CHANNELS)
    if views.dtype != np.uint8 or views.shape != expected:
        raise InputError(f"Expected views of uint8 and shape {expected}, got {views.dtype} {views.shape}.")


def stored_image(pixels: np.ndarray, place: Geometry) -> Image.Image:
    """An original image as `Decoding.to_arrays` kept it: uint8 (height, width, 3).

    Raises:
        InputError: it has another type, or another size than `place` says.
    """
    expected = (*place.image_size[::-1], CHANNELS)
    if pixels.dtype != np.uint8 or pixels.shape != expected:
        raise InputError(
            f"Expected an image of uint8 and shape {expected}, got {pixels.dtype} {pixels.shape}."
        )
    return Image.fromarray(pixels)
