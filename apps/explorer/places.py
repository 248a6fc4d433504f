"""Places of an image, as rectangles of patches: from links, on other grids, in the image."""

import re
from collections.abc import Mapping

from emma_viz.data.image_grid import ImageGrid
from emma_viz.render import GridSpans


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
    spans = GridSpans.of(place.spans, place.image_size)
    across, down = spans.across, spans.down
    return float(across[0, left]), float(down[0, top]), float(across[1, right]), float(down[1, bottom])


def translate(
    region: tuple[int, int, int, int], one: ImageGrid, other: ImageGrid
) -> tuple[int, int, int, int] | None:
    """The same place on another grid, by the centres of the first and the last patch; None where it has none there."""

    top, left, bottom, right = region
    columns = one.grid[1]
    corners = one.token_boxes()[[top * columns + left, bottom * columns + right]]
    first, last = other.tokens_at((corners[:, :2] + corners[:, 2:]) / 2).tolist()
    return None if min(first, last) < 0 else (*divmod(first, other.grid[1]), *divmod(last, other.grid[1]))
