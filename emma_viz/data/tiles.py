"""Grids of image tokens of any shape, several an image: dynamic resolution, tiles, thumbnails, spare tokens."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any

import msgspec
import numpy as np
from jaxtyping import Float, Int, UInt8

from emma_viz.cells import Spans
from emma_viz.data.geometry import Geometry
from emma_viz.data.image_grid import Axis, ImageGrid
from emma_viz.errors import InputError

MOST_IMAGE_TOKENS = 65_536
"""Tokens that one image may become: four times what Qwen's largest image does. A file may ask for any number."""
_Count = Annotated[int, msgspec.Meta(ge=1, le=8192)]


@dataclass(frozen=True, kw_only=True)
class TokenAxis:
    """One axis of a grid of tokens: which pixels of the resized image each row or column of it sees.

    An encoder cuts each tile of `pitch` pixels into `tile` whole patches; what is left of the tile (6 of 384 pixels for
    patches of 14) is seen by no token. A grid that is one tile has `tile` = 0.

    Raises:
        InputError: the patches of a tile do not fit it.
    """

    count: _Count
    """Rows, or columns."""
    patch: _Count
    """p, the side of what a token stands for, pixels of the view."""
    axis: Axis
    """From the original image to all tiles side by side."""
    tile: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Patches of a tile; 0 where nothing lies between them."""
    pitch: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Pixels from one tile to the next."""
    skip: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Patches in front of the first token, which are dropped as they see padding alone."""
    step: float = 1.0
    """Patches that a token stands for, where features are resampled to a smaller grid."""

    def __post_init__(self):
        if self.axis.resized <= 0 or self.axis.length < 1 or self.axis.pad < 0:
            raise InputError(f"expected an axis with pixels before and after the resize, got {self.axis}")
        if self.step <= 0 or (self.tile and self.tile * self.patch > self.pitch):
            raise InputError(
                f"expected a step above 0 and tiles of at least their patches, got {self.step} and {self.tile} patches "
                f"of {self.patch} in {self.pitch} pixels"
            )

    @cached_property
    def on_tiles(self) -> Spans:
        """Where each token begins and ends on the tiles, pixels."""
        first = self.skip + np.arange(self.count) * self.step
        last = self.skip + np.arange(1, self.count + 1) * self.step
        if not self.tile:
            return first * self.patch, last * self.patch
        begun, ended = np.floor(first / self.tile), np.ceil(last / self.tile) - 1
        return (
            begun * self.pitch + (first - begun * self.tile) * self.patch,
            ended * self.pitch + (last - ended * self.tile) * self.patch,
        )

    @cached_property
    def spans(self) -> Spans:
        """Where each token begins and ends, in original pixels; beyond the image where it sees padding."""
        first, last = self.on_tiles
        return self.axis.to_image(first), self.axis.to_image(last)


@dataclass(frozen=True, kw_only=True)
class TokenGrid:
    """One grid of tokens over an image, such as all of its tiles side by side, or its thumbnail."""

    x: TokenAxis
    """Across."""
    y: TokenAxis
    """Down."""

    @property
    def n_tokens(self) -> int:
        """R·C."""
        return self.x.count * self.y.count

    @property
    def is_cut(self) -> bool:
        """Whether it has more tokens than one tile."""
        return any(0 < each.tile < each.count for each in (self.x, self.y))


@dataclass(frozen=True, kw_only=True)
class TileGeometry(ImageGrid):
    """The tokens of an image that lie on one grid or several.

    Tokens are numbered grid by grid, row-major each, whatever their order in the sequence; those that stand for no
    pixels come last. What is decoded and drawn are the tokens of the first grid: the finest, so that each pixel is
    shown by the finest token that covers it, unless the model was loaded to draw its thumbnail.

    Examples:
        >>> def axis(count, length):
        ...     return TokenAxis(count=count, patch=8, axis=Axis(length=length, pad=0, resized=8 * count, crop=0))
        >>> whole, thumbnail = TokenGrid(x=axis(4, 60), y=axis(2, 30)), TokenGrid(x=axis(2, 60), y=axis(2, 30))
        >>> place = TileGeometry(image_size=(60, 30), grids=(whole, thumbnail), spare=2)
        >>> place.grid, place.n_tokens, place.n_image_tokens
        ((2, 4), 8, 14)

    Raises:
        InputError: there is no grid, one is over another image, or they have too many tokens.
    """

    image_size: tuple[int, int]
    """(W, H) of the original image, pixels."""
    grids: tuple[TokenGrid, ...]
    """The one that is drawn first, which covers all of the image that any sees."""
    spare: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Tokens that stand for no pixels, such as those at the ends of rows."""

    def __post_init__(self):
        sizes = {(each.x.axis.length, each.y.axis.length) for each in self.grids}
        if (
            min(self.image_size) < 1
            or sizes != {self.image_size}
            or self.grids[0].x.patch != self.grids[0].y.patch
        ):
            raise InputError(
                f"expected grids of square patches over {self.image_size} pixels, got {len(self.grids)} over {sizes}"
            )
        if self.n_image_tokens > MOST_IMAGE_TOKENS:
            raise InputError(
                f"an image of {self.image_size[0]}×{self.image_size[1]} pixels would become {self.n_image_tokens} "
                f"tokens, more than {MOST_IMAGE_TOKENS}: lower the sizes in the checkpoint's preprocessor_config.json."
            )

    @property
    def grid(self) -> tuple[int, int]:
        """(R, C) of the grid that is drawn."""
        return self.grids[0].y.count, self.grids[0].x.count

    @property
    def patch(self) -> int:
        """p of the grid that is drawn."""
        return self.grids[0].x.patch

    @property
    def spans(self) -> tuple[Spans, Spans]:
        """Of the grid that is drawn."""
        return self.grids[0].x.spans, self.grids[0].y.spans

    @property
    def n_image_tokens(self) -> int:
        """All tokens that the image becomes."""
        return sum(each.n_tokens for each in self.grids) + self.spare

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
        ends = np.cumsum([0, *(each.n_tokens for each in self.grids)]).tolist()
        for number, (start, end) in enumerate(pairwise(ends)):
            if token < end:
                return number, token - start
        return None

    def with_coarser(self, tokens: Int[np.ndarray, " k"]) -> Int[np.ndarray, " m"]:
        """See `ImageGrid`; tokens that are not of the first grid stay as they are."""
        boxes, first = self.all_boxes(), self.n_tokens
        fine, rest = boxes[tokens[tokens < first]], boxes[first : self.n_image_tokens - self.spare]
        # Less than a thousandth of a pixel is rounding.
        apart = [
            np.minimum(rest[:, None, end], fine[None, :, end]) - np.maximum(rest[:, None, begin], fine[None, :, begin])
            for begin, end in ((0, 2), (1, 3))
        ]  # fmt: skip
        seen = (np.minimum(*apart) > 1e-3).any(axis=1)
        return np.union1d(tokens, first + np.flatnonzero(seen)).astype(np.int64)

    @property
    def said(self) -> str:
        """What a picture of the first grid leaves out, in words; empty where that is nothing."""
        rest = [
            f"{each.y.count}×{each.x.count} tokens of {'the tiles' if each.is_cut else 'the whole image'}"
            for each in self.grids[1:]
        ]
        rest += [f"{self.spare} tokens without pixels"] * bool(self.spare)
        return f"not drawn: {', '.join(rest)}" if rest else ""

    def seen(self, canvas: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "height width 3"]:
        """What the tokens of the grid that is drawn see, R·p × C·p pixels; where a token stands for more than a patch,
        every p-th part of it.

        Args:
            canvas: all tiles side by side, as the model's preprocessing made them.
        """
        return canvas[_pixels(self.grids[0].y)][:, _pixels(self.grids[0].x)]


def kept_grids(places: Sequence[ImageGrid]) -> dict[str, list[dict[str, Any]]]:
    """The grids of a recording as files hold them: `geometry` of square inputs, or `tiles` of any other."""
    tiles = [asdict(each) for each in places if isinstance(each, TileGeometry)]
    squares = [asdict(each) for each in places if isinstance(each, Geometry)]
    if tiles and squares:
        raise AssertionError("one model makes grids of one kind")
    return {"geometry": squares, "tiles": tiles}


def grids_of(
    geometry: tuple[Geometry, ...], tiles: tuple[TileGeometry, ...]
) -> tuple[Geometry, ...] | tuple[TileGeometry, ...]:
    """What `kept_grids` kept.

    Raises:
        InputError: there are both.
    """
    if geometry and tiles:
        raise InputError("expected grids of one kind, got `geometry` and `tiles`")
    return tiles or geometry


def _pixels(line: TokenAxis) -> np.ndarray:
    """Which pixels of the tiles are shown, p a token."""
    first, last = line.on_tiles
    parts = (np.arange(line.patch) + 0.5) / line.patch
    return np.floor(first[:, None] + (last - first)[:, None] * parts).astype(int).ravel()
