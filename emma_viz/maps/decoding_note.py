"""What stands beside the arrays of a decoding that was put away, and the checks of both on the way back."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from emma_viz.data.geometry import Geometry
from emma_viz.data.image_grid import ImageGrid
from emma_viz.data.labels import ImageLabel
from emma_viz.data.tiles import TileGeometry, grids_of
from emma_viz.errors import InputError
from emma_viz.lens.info import TAPS, Layer
from emma_viz.models.attention_sites import ALL_SITES
from emma_viz.shapes import CHANNELS

DECODING_SCHEMA = 3
"""Version of the arrays and meta of `Decoding.to_arrays`; 2 brought the controls of its lens, 3 `tiles`."""


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
    geometry: tuple[Geometry, ...]
    image_hashes: tuple[str, ...]
    prompts: tuple[str, ...]
    answers: tuple[str, ...]
    forced_reasons: tuple[str, ...]
    labels: tuple[ImageLabel, ...] = ()
    notes: tuple[str, ...] = ()
    tiles: tuple[TileGeometry, ...] = ()

    @property
    def places(self) -> tuple[Geometry, ...] | tuple[TileGeometry, ...]:
        """The grids of all images."""
        return grids_of(self.geometry, self.tiles)

    def __post_init__(self):
        if not self.places:
            raise InputError("expected at least one image, got no `geometry` and no `tiles`")
        if self.site not in (*ALL_SITES, TAPS):
            raise InputError(f"{self.site[:100]!r} is no hook site")
        if len(set(self.layers)) != len(self.layers):
            raise InputError(f"a layer stands in {list(self.layers)[:100]} twice")


SAME = (
    "layers",
    "site",
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
    first, batch = known.places[0], len(known.places)
    like = (first.view_size, first.grid, first.patch)
    if any((each.view_size, each.grid, each.patch) != like for each in known.places):
        raise InputError("A decoding has views of one size and patch; its images have several.")
    expected = (len(known.layers), batch, first.n_tokens, first.patch, first.patch, CHANNELS)
    if patches.dtype.kind != "f" or patches.shape != expected:
        raise InputError(
            f"Expected patches of floats and shape {expected}, got {patches.dtype} {patches.shape}."
        )
    expected = (batch, *first.view_size, CHANNELS)
    if views.dtype != np.uint8 or views.shape != expected:
        raise InputError(f"Expected views of uint8 and shape {expected}, got {views.dtype} {views.shape}.")


def stored_image(pixels: np.ndarray, place: ImageGrid) -> Image.Image:
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
