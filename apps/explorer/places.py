"""Places of an image, as rectangles of patches: from links, on other grids, in the image."""

import re
from collections.abc import Mapping

import numpy as np

from emma_viz.data.image_grid import ImageGrid
from emma_viz.render import grid_extent


def region_of(look: Mapping[str, str], grid: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The patches that were kept on the page: first row and column, last row and column; None for none."""
    rows, columns = grid
    text = look.get("patch", "") or look.get("region", "")
    if not re.fullmatch(r"\d{1,8}|(\d{1,5},){3}\d{1,5}", text, re.ASCII):
        return None
    top, left, *last = map(int, text.split(",")) if "," in text else divmod(int(text), columns)
    bottom, right = last or (top, left)
    return (top, left, bottom, right) if top <= bottom < rows and left <= right < columns else None


def extent_of(region: tuple[int, int, int, int], place: ImageGrid) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a region's patches, as fractions of the image."""
    top, left, bottom, right = region
    columns = place.grid[1]
    corners = place.token_boxes()[[top * columns + left, bottom * columns + right]]
    return grid_extent(corners, place.image_size)


def translate(
    region: tuple[int, int, int, int], one: ImageGrid, other: ImageGrid
) -> tuple[int, int, int, int] | None:
    """The same place on another grid, by the centres of the first and the last patch; None where it has none there."""

    def patch(edges: np.ndarray, own: np.ndarray, index: int) -> int:
        return int(np.searchsorted(edges, (own[index] + own[index + 1]) / 2, side="right")) - 1

    (x, y), (u, v) = ([np.append(starts, ends[-1]) for starts, ends in each.spans] for each in (one, other))
    top, left, bottom, right = region
    found = patch(v, y, top), patch(u, x, left), patch(v, y, bottom), patch(u, x, right)
    rows, columns = other.grid
    return found if min(found) >= 0 and found[2] < rows and found[3] < columns else None
