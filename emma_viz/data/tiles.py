"""Grids of image tokens of any shape, several an image: dynamic resolution, tiles, thumbnails, spare tokens."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import msgspec
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from emma_viz.data.image_grid import Axis, ImageGrid
from emma_viz.errors import InputError

_Count = Annotated[int, msgspec.Meta(ge=1, le=8192)]


@dataclass(frozen=True, kw_only=True)
class TokenGrid:
    """One grid of tokens over an image, such as all of its tiles side by side, or its thumbnail."""

    rows: _Count
    """R."""
    columns: _Count
    """C."""
    patch: _Count
    """p, the side of what a token stands for, pixels of the view."""
    x: Axis
    """From the original image to the view, across."""
    y: Axis
    """The same, down."""


@dataclass(frozen=True, kw_only=True)
class TileGeometry(ImageGrid):
    """The tokens of an image that lie on one grid or several.

    Tokens are numbered grid by grid, row-major each, the finest grid first, whatever their order in the sequence; those
    that stand for no pixels come last. What is decoded and drawn are the tokens of the first grid: each pixel is shown
    by the finest token that covers it.

    Example:
        >>> axis = Axis(length=60, pad=0, resized=32, crop=0)
        >>> wide = TokenGrid(rows=2, columns=4, patch=8, x=axis, y=Axis(length=30, pad=0, resized=16, crop=0))
        >>> thumbnail = TokenGrid(rows=2, columns=2, patch=8, x=Axis(length=60, pad=0, resized=16, crop=0), y=wide.y)
        >>> place = TileGeometry(image_size=(60, 30), grids=(wide, thumbnail), spare=2)
        >>> place.grid, place.n_tokens, place.n_image_tokens
        ((2, 4), 8, 14)
    """

    image_size: tuple[int, int]
    """(W, H) of the original image, pixels."""
    grids: tuple[TokenGrid, ...]
    """The finest first, which covers all of the image that any sees."""
    spare: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Tokens that stand for no pixels, such as those at the ends of rows."""

    def __post_init__(self):
        if not self.grids or min(self.image_size) < 1:
            raise InputError(
                f"expected an image and a grid of tokens over it, got {self.image_size} and {len(self.grids)} grids"
            )
        for each in self.grids:
            if (each.x.length, each.y.length) != self.image_size:
                raise InputError(
                    f"expected grids over an image of {self.image_size}, got one over {(each.x.length, each.y.length)}"
                )

    @property
    def grid(self) -> tuple[int, int]:
        """(R, C) of the finest grid."""
        return self.grids[0].rows, self.grids[0].columns

    @property
    def patch(self) -> int:
        """p of the finest grid."""
        return self.grids[0].patch

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """The maps of the finest grid."""
        return self.grids[0].x, self.grids[0].y

    @property
    def n_image_tokens(self) -> int:
        """All tokens that the image becomes."""
        return sum(each.rows * each.columns for each in self.grids) + self.spare

    @property
    def parts(self) -> "tuple[TileGeometry, ...]":
        """Each grid alone, in order."""
        return tuple(TileGeometry(image_size=self.image_size, grids=(each,)) for each in self.grids)

    def all_boxes(self) -> Float[np.ndarray, "A 4"]:
        """The box of every token in original pixels; NaN for those that stand for none."""
        boxes = [each.token_boxes() for each in self.parts]
        return np.concatenate([*boxes, np.full((self.spare, 4), np.nan)])

    def part_of(self, token: int) -> tuple[int, int] | None:
        """Which grid a token is of, and its number there; None where it stands for no pixels.

        Raises:
            InputError: there is no such token.
        """
        if not 0 <= token < self.n_image_tokens:
            raise InputError(f"expected a token of 0 to {self.n_image_tokens - 1}, got {token}")
        ends = np.cumsum([0, *(each.rows * each.columns for each in self.grids)])
        for number, (start, end) in enumerate(pairwise(ends)):
            if token < end:
                return number, token - int(start)
        return None

    @property
    def said(self) -> str:
        """What a picture of the finest grid leaves out, in words; empty where that is nothing."""
        rest = [f"{each.rows}×{each.columns} tokens of the whole image" for each in self.grids[1:]]
        rest += [f"{self.spare} tokens without pixels"] * bool(self.spare)
        return f"not drawn: {', '.join(rest)}" if rest else ""

    def view(self, image: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
        """What the tokens of the finest grid see of an image, R·p × C·p pixels; padding is black."""
        (rows, columns), p = self.grid, self.patch
        size = np.array([columns * p, rows * p])
        low, high = np.zeros(2), np.zeros(2)
        for number, axis in enumerate(self.axes):
            low[number] = max(0.0, -axis.crop)
            high[number] = min(float(size[number]), axis.resized - axis.crop)
        place = [int(each) for each in (*np.rint(low), *np.rint(high))]
        x, y = self.axes
        box = [
            float(each)
            for each in (*x.to_image(np.array([low[0], high[0]])), *y.to_image(np.array([low[1], high[1]])))
        ]
        left, right, top, bottom = box
        source = (
            max(left, 0.0),
            max(top, 0.0),
            min(right, float(image.width)),
            min(bottom, float(image.height)),
        )
        out = Image.new("RGB", (int(size[0]), int(size[1])))
        across, down = max(place[2] - place[0], 1), max(place[3] - place[1], 1)
        out.paste(image.resize((across, down), Image.Resampling.BICUBIC, box=source), (place[0], place[1]))
        return np.asarray(out)
