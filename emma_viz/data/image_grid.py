"""The map between the image tokens of a model and the pixels of the original image, whatever model it is.

Tokens that stand for pixels lie on a grid of rows and columns; each axis of it is an affine map of its own, taken from
the integers that the preprocessing really uses, so nothing is approximated.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from einops import rearrange
from jaxtyping import Float, Float32, Int, Shaped

from emma_viz.cells import Spans, cell_of
from emma_viz.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Axis:
    """How one axis of the original image lands on the model's input.

    view = (original + pad) · resized / (length + 2 pad) − crop
    """

    length: int
    """Pixels of the original image."""
    pad: int
    """Pixels added on each side before the resize."""
    resized: int | float
    """Pixels after the resize."""
    crop: int | float
    """Pixels cut off before the model's input begins; below 0 where it begins with padding."""

    @property
    def padded(self) -> int:
        """Pixels before the resize, padding included."""
        return self.length + 2 * self.pad

    def to_image(self, view: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """Take positions on the model's input to the original image."""
        return (view + self.crop) * (self.padded / self.resized) - self.pad


@dataclass(frozen=True, kw_only=True)
class ImageGrid(ABC):
    """A grid of image tokens over an original image.

    Tokens are numbered row-major from the top left; boxes are floats in original pixels.
    """

    if TYPE_CHECKING:  # fields of some, properties of others

        @property
        def image_size(self) -> tuple[int, int]:
            """(W, H) of the original image, pixels."""
            ...

        @property
        def patch(self) -> int:
            """p, the side of what a token stands for, pixels of the view."""
            ...

    @property
    @abstractmethod
    def grid(self) -> tuple[int, int]:
        """(R, C), rows and columns of tokens."""

    @property
    @abstractmethod
    def spans(self) -> tuple[Spans, Spans]:
        """Where the columns and where the rows begin and end, in original pixels."""

    @property
    def view_size(self) -> tuple[int, int]:
        """(height, width) of the view that the patches are cut from, pixels."""
        return self.grid[0] * self.patch, self.grid[1] * self.patch

    @property
    def said(self) -> str:
        """What a picture of the grid leaves out, in words; empty where that is nothing."""
        return ""

    @property
    def n_tokens(self) -> int:
        """T = R·C."""
        return self.grid[0] * self.grid[1]

    @property
    def n_image_tokens(self) -> int:
        """All tokens that the image becomes: those of the grid first."""
        return self.n_tokens

    def with_coarser(self, tokens: Int[np.ndarray, " k"]) -> Int[np.ndarray, " m"]:
        """Tokens of the grid, and those of coarser grids of the same image that see any of what they see.

        Args:
            tokens: numbers, in order.
        """
        return tokens

    def token_boxes(self) -> Float[np.ndarray, "T 4"]:
        """The boxes of all tokens; with letterbox they may leave the image."""
        (left, right), (top, bottom) = self.spans
        rows, columns = self.grid
        row, column = np.divmod(np.arange(rows * columns), columns)
        return np.stack([left[column], top[row], right[column], bottom[row]], axis=-1)

    def tokens_at(self, points: Shaped[np.ndarray, "*n 2"]) -> Int[np.ndarray, "*n"]:
        """The token whose box holds each point (x, y), −1 where no patch sees.

        A box holds its left and top edge, not its right and bottom edge.
        """
        (column, across), (row, down) = (
            cell_of(span, points[..., place]) for place, span in enumerate(self.spans)
        )
        return np.asarray(np.where(across & down, row * self.grid[1] + column, -1))

    def tokens_in(self, box: Sequence[float | int], *, at_least: float | int = 0.5) -> Int[np.ndarray, " k"]:
        """The tokens that a box covers, in order.

        Args:
            box: (left, top, right, bottom) in original pixels; it may leave the image.
            at_least: share, above 0 and up to 1, of the part of a token's box inside the image that the box must cover.

        Returns:
            Their numbers; tokens that see padding alone are in no box.

        Raises:
            InputError: the box has no extent, or the share is out of its range.
        """
        left, top, right, bottom = (float(edge) for edge in box)
        if not (left < right and top < bottom):
            raise InputError(f"expected a box (left, top, right, bottom) with an extent, got {tuple(box)}")
        if not 0 < at_least <= 1:
            raise InputError(f"expected at_least above 0 and up to 1, got {at_least}")
        across = _covered_share(self.spans[0], left, right, self.image_size[0])
        down = _covered_share(self.spans[1], top, bottom, self.image_size[1])
        # A hair below: a box drawn along the tokens' own edges covers them whole, whatever their rounding.
        return np.flatnonzero(np.outer(down, across).ravel() >= at_least - 1e-9)

    def paste(self, values: Shaped[np.ndarray, "R C *k"]) -> Float32[np.ndarray, "height width *k"]:
        """Lay one value per token over the original image: each pixel takes the value of its token.

        Returns:
            float32, NaN at the pixels whose centre no patch sees.

        Raises:
            InputError: the values are on another grid.
        """
        if values.shape[:2] != self.grid:
            raise InputError(f"expected values on a {self.grid} grid, got shape {values.shape}")
        width, height = self.image_size
        across, down = self.spans
        out = np.full((height, width, *values.shape[2:]), np.nan, dtype=np.float32)
        column, seen = cell_of(across, np.arange(width) + 0.5)
        row, shown = cell_of(down, np.arange(height) + 0.5)
        values = values.astype(np.float32, copy=False)
        # One row of the grid at a time: nothing of the size of the image is made beside the result.
        for each in np.unique(row[shown]):
            lines = np.flatnonzero(shown & (row == each))
            out[lines[0] : lines[-1] + 1, seen] = values[each][column[seen]]
        return out

    def patches(self, view: Shaped[np.ndarray, "height width 3"]) -> Shaped[np.ndarray, "T p p 3"]:
        """Cut a view into its tokens' patches, leaving out the rows and columns no patch sees.

        Raises:
            InputError: the view has another size.
        """
        rows, columns = self.grid
        p = self.patch
        if view.shape[:2] != self.view_size:
            height, width = self.view_size
            raise InputError(f"expected a view of {width}×{height} pixels, got shape {view.shape}")
        seen = view[: rows * p, : columns * p]
        return rearrange(seen, "(R i) (C j) c -> (R C) i j c", i=p, j=p)


def _covered_share(span: Spans, first: float, last: float, length: int) -> np.ndarray:
    """Of each cell's part within [0, length], the share within [first, last]; 0 where it has no such part."""
    low, high = (np.clip(each, 0, length) for each in span)
    covered = np.minimum(high, last) - np.maximum(low, first)
    return np.where(high > low, np.maximum(covered, 0) / np.maximum(high - low, 1e-300), 0.0)
