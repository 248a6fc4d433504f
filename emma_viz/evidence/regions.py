"""Which image tokens belong to an object, and other places of the same shape to compare it with."""

import zlib

import numpy as np
from jaxtyping import Bool
from scipy.ndimage import binary_dilation

from emma_viz.data.image_grid import ImageGrid
from emma_viz.metrics import mask_on_grid

COVERED = 0.5
"""A patch is an object's when the object covers so much of it; the patch that it covers most is in any case."""


def covered_tokens(
    mask: Bool[np.ndarray, "height width"],
    geometry: ImageGrid,
    *,
    beside: bool = True,
    covered: float = COVERED,
) -> Bool[np.ndarray, "R C"] | None:
    """The tokens that a mask covers.

    Args:
        mask: in the frame of the original image.
        geometry: of that image.
        beside: take those beside as well, because an image encoder mixes neighbours.
        covered: the least share of a token's patch; of 0, whatever the mask touches.

    Returns:
        The tokens; None where the mask covers none, or half of the image or more, of which there is no elsewhere.

    Raises:
        InputError: the mask is not of the image's size.
    """
    share = np.nan_to_num(mask_on_grid(mask, geometry))
    if share.max() == 0:
        return None
    found = ((share >= covered) & (share > 0)) | (share == share.max())
    found = binary_dilation(found) if beside else found
    return found if found.mean() < COVERED else None


def tokens_showing(place: Bool[np.ndarray, "R C"], geometry: ImageGrid) -> list[int]:
    """The image tokens that show a place: those of the grid, and of coarser grids all that see any of it."""
    return geometry.with_coarser(np.flatnonzero(place)).tolist()


def places_alike(
    place: Bool[np.ndarray, "R C"], *, count: int, seed: str = ""
) -> list[Bool[np.ndarray, "R C"]]:
    """Other places of the same shape, moved round the edges of the grid, those that meet it least; no two the same.

    Args:
        place: the tokens.
        count: how many; fewer where the grid has not as many that share less than half of their tokens with it:
            one that spans a side moves along the other alone.
        seed: tells the draw; the same for the same one.
    """
    size = place.sum()
    moved = [
        np.roll(place, (row, column), axis=(0, 1))
        for row in range(place.shape[0])
        for column in range(place.shape[1])
    ]
    # Moved along the side that it spans, a place stays where it is.
    moved = list({each.tobytes(): each for each in moved}.values())
    apart = [each for each in moved if (each & place).sum() == 0]
    near = [each for each in moved if 0 < (each & place).sum() < size / 2]
    draw = np.random.default_rng(zlib.crc32(seed.encode()))
    chosen = [apart[index] for index in draw.permutation(len(apart))]
    chosen += sorted(near, key=lambda each: int((each & place).sum()))
    return chosen[:count]
