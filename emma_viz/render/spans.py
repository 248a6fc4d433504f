"""Where the rows and columns of a patch grid lie on their image."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from emma_viz.cells import Spans, cell_of
from emma_viz.errors import InputError
from emma_viz.render.expectations import FARTHEST, expect_extent, expect_shape

Extent = tuple[float, float, float, float]
"""Left, top, right, bottom, as fractions of an image's width and height."""

_CLOSE = 1e-9
"""Of an image's side: less lies between two cells by rounding alone."""
_MOST_LINES = 4
"""A spread picture has at most so many lines for each of its own; tiles need little more than one."""


class CellAxis(NamedTuple):
    """One axis of a picture of a grid, laid out where its cells lie."""

    edges: Float[np.ndarray, " n+1"]
    """Where each of its lines begins, and the last ends; shares of the image's side."""
    source: Int[np.ndarray, " n"]
    """Which line of the picture each is; −1 where no cell lies."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GridSpans:
    """Where each column and each row of a patch grid begins and ends, as shares of the image's width and height.

    A letterboxed grid reaches below 0 and above 1, a cropped one stays inside. Where an image is cut into tiles, cells
    lie apart: the patches of a tile may not fill it, and what is left is seen by none.

    Examples:
        >>> GridSpans.even((0.0, 0.0, 1.0, 1.0), (1, 2)).across.tolist()
        [[0.0, 0.5], [0.5, 1.0]]

    Raises:
        InputError: cells overlap, are not in order, have no extent, or lie far outside the image.
    """

    across: Float[np.ndarray, "2 C"]
    """Where the columns begin, and where they end; shape (2, C)."""
    down: Float[np.ndarray, "2 R"]
    """Where the rows begin, and where they end; shape (2, R)."""

    def __post_init__(self):
        for name, span in (("columns", self.across), ("rows", self.down)):
            expect_shape(name, span, (2, None))
            inside = bool((np.abs(span) <= FARTHEST).all())  # False for NaN
            if not (
                inside
                and (span[0] < span[1]).all()
                and (np.diff(span[0]) > 0).all()
                and (span[0, 1:] - span[1, :-1] >= -_CLOSE).all()
            ):
                raise InputError(
                    f"expected {name} in order and apart, each with an extent, in fractions of at most "
                    f"{FARTHEST:.0f}, got {span[:, :20].tolist()}."
                )

    @classmethod
    def even(cls, extent: Extent, grid: tuple[int, int]) -> "GridSpans":
        """A grid whose cells share a rectangle evenly.

        Args:
            extent: left, top, right, bottom, as fractions of the image.
            grid: rows and columns.

        Raises:
            InputError: the rectangle is none, or lies far outside the image.
        """
        expect_extent("a patch grid", extent)
        (left, top, right, bottom), (rows, columns) = extent, grid
        edges = np.linspace(left, right, columns + 1), np.linspace(top, bottom, rows + 1)
        across, down = (np.stack([each[:-1], each[1:]]) for each in edges)
        return cls(across=across, down=down)

    @classmethod
    def of(cls, spans: tuple[Spans, Spans], image_size: tuple[int, int]) -> "GridSpans":
        """A grid that is known in pixels, as that of a model's tokens (`ImageGrid.spans`).

        Args:
            spans: where the columns and where the rows begin and end, pixels.
            image_size: width and height of the image, pixels.
        """
        across, down = (
            np.stack(span).astype(np.float64) / side for span, side in zip(spans, image_size, strict=True)
        )
        return cls(across=across, down=down)

    @property
    def grid(self) -> tuple[int, int]:
        """(R, C), rows and columns."""
        return self.down.shape[1], self.across.shape[1]

    @property
    def extent(self) -> Extent:
        """The rectangle that holds all cells."""
        return (
            float(self.across[0, 0]),
            float(self.down[0, 0]),
            float(self.across[1, -1]),
            float(self.down[1, -1]),
        )

    @property
    def is_even(self) -> bool:
        """Whether the cells share `extent` evenly."""
        even = GridSpans.even(self.extent, self.grid)
        return all(
            np.allclose(own, other, rtol=0, atol=_CLOSE)
            for own, other in ((self.across, even.across), (self.down, even.down))
        )

    def to_json(self) -> list[list[list[float]]]:
        """Starts and ends across, then those down, as the canvas takes them."""
        return [self.across.tolist(), self.down.tolist()]

    def equals(self, other: "GridSpans") -> bool:
        """Whether both have the same cells at the same places."""
        return np.array_equal(self.across, other.across) and np.array_equal(self.down, other.down)

    def cells_of_pixels(self, size: tuple[int, int]) -> tuple[Int[np.ndarray, " H"], Int[np.ndarray, " W"]]:
        """Which row of patches each row of pixels lies in, and which column each column; −1 where none sees its centre.

        Args:
            size: height and width of the image, pixels.
        """
        rows, columns = (
            np.where(held, cell, -1)
            for cell, held in (
                cell_of((span[0], span[1]), (np.arange(pixels) + 0.5) / pixels)
                for span, pixels in ((self.down, size[0]), (self.across, size[1]))
            )
        )
        return rows, columns

    def laid_out(self, lines: int = 1) -> tuple[CellAxis, CellAxis]:
        """Where the lines of a picture of the grid lie, across and down.

        Args:
            lines: lines of the picture for a cell, of each axis.
        """
        return _laid_out(self.across, lines), _laid_out(self.down, lines)

    def spread(self, pixels: Shaped[np.ndarray, "h w *c"]) -> Shaped[np.ndarray, "height width *c"]:
        """A picture of the grid over all of `extent`: what no cell covers is 0, of RGBA transparent.

        The lines of the smallest cells keep their number, so that the pixels of tiles come back as the tiles have them;
        cells far smaller than an even share keep fewer, as a picture has at most 4 lines for each of its own.

        Args:
            pixels: of h = R·p by w = C·p pixels.
        """
        p = pixels.shape[0] // self.grid[0]
        across, down = (_even_lines(axis) for axis in self.laid_out(p))
        out = pixels[down][:, across]
        out[down < 0] = 0
        out[:, across < 0] = 0
        return out

    def unseen(self) -> list[tuple[float, float, float, float]]:
        """The parts (x, y, width, height) of the unit square that no cell covers."""
        rows, columns = _covered(self.down), _covered(self.across)
        if not rows or not columns:
            return [(0.0, 0.0, 1.0, 1.0)]
        parts = [(0.0, low, 1.0, high - low) for low, high in _between(rows)]
        parts += [
            (left, top, right - left, bottom - top)
            for top, bottom in rows
            for left, right in _between(columns)
        ]
        return [part for part in parts if part[2] > 1e-6 and part[3] > 1e-6]


def _laid_out(span: np.ndarray, lines: int) -> CellAxis:
    starts, ends = span
    parts = np.arange(lines + 1) / lines
    edges = starts[:, None] + (ends - starts)[:, None] * parts
    apart = np.append(starts[1:] - ends[:-1] > _CLOSE, True)  # the end of the last begins no line
    begins = [
        np.append(own[:-1], own[-1:] if gap else own[:0]) for own, gap in zip(edges, apart, strict=True)
    ]
    numbers = np.arange(len(starts) * lines).reshape(-1, lines)
    source = [np.append(own, [-1] if gap else []) for own, gap in zip(numbers, apart, strict=True)]
    return CellAxis(np.concatenate(begins), np.concatenate(source).astype(np.int64)[:-1])


def _even_lines(axis: CellAxis) -> np.ndarray:
    """The source of lines that share the axis evenly, as high as the smallest of its own, if they are not too many."""
    edges, source = axis
    own, extent = source >= 0, edges[-1] - edges[0]
    least = max(np.diff(edges)[own].min(), extent / (_MOST_LINES * own.sum()))
    count = max(1, round(extent / least))
    centres = edges[0] + (np.arange(count) + 0.5) * (extent / count)
    return source[np.searchsorted(edges, centres, side="right") - 1]


def _covered(span: np.ndarray) -> list[tuple[float, float]]:
    """The parts of [0, 1] that some cell covers, in order and apart."""
    found: list[tuple[float, float]] = []
    for low, high in np.clip(span, 0.0, 1.0).T.tolist():
        if low >= high:
            continue
        if found and low - found[-1][1] <= _CLOSE:
            found[-1] = (found[-1][0], high)
        else:
            found.append((low, high))
    return found


def _between(parts: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """What lies in [0, 1] before, between and after some parts of it."""
    ends = [0.0, *(high for _, high in parts)]
    begins = [*(low for low, _ in parts), 1.0]
    return list(zip(ends, begins, strict=True))
