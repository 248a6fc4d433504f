"""What a family of vision-language models of the transformers package has to say of itself: a family is one file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from einops import rearrange
from jaxtyping import Float, Int

from emma_viz.data.image_grid import Axis
from emma_viz.data.tiles import TileGeometry, TokenAxis, TokenGrid
from emma_viz.errors import CheckpointError


@dataclass(frozen=True, kw_only=True, eq=False)
class Arrangement:
    """How the tokens of one image lie over it, and in the sequence."""

    geometry: TileGeometry
    """Over the image."""
    order: Int[np.ndarray, " A"]
    """Of each token of the geometry, in its order, which of the image's tokens of the sequence it is."""
    tiles: tuple[int, int] = (0, 0)
    """Rows and columns of the tiles that the image is cut into; (0, 0) where it is not."""

    @property
    def thumbnail(self) -> "Arrangement":
        """The same with the tokens of the whole image in front of those of its tiles; where it has one grid, itself."""
        if len(self.geometry.grids) != 2:
            return self
        whole, small = self.geometry.grids
        end = whole.n_tokens + small.n_tokens
        order = np.concatenate(
            [self.order[whole.n_tokens : end], self.order[: whole.n_tokens], self.order[end:]]
        )
        return replace(self, geometry=replace(self.geometry, grids=(small, whole)), order=order)

    def __post_init__(self):
        if sorted(self.order.tolist()) != list(range(self.geometry.n_image_tokens)):
            raise CheckpointError(
                f"expected an order of {self.geometry.n_image_tokens} image tokens, got one of {len(self.order)}"
            )


@dataclass(frozen=True, kw_only=True)
class PeerSettings:
    """What a checkpoint says of its images."""

    config: Any
    """transformers' configuration of the model."""
    processor: Any
    """transformers' image processor."""

    def side(self, name: str = "size") -> tuple[int, int]:
        """(height, width) that the processor resizes or crops to.

        Raises:
            CheckpointError: it names no such size.
        """
        size = getattr(self.processor, name, None)
        for keys in (
            ("height", "width"),
            ("shortest_edge", "shortest_edge"),
            ("longest_edge", "longest_edge"),
        ):
            height, width = (_of(size, key) for key in keys)
            if height and width:
                return int(height), int(width)
        raise CheckpointError(
            f"expected an image processor whose {name} names a height and a width or an edge, got {size}"
        )


def _of(size: Any, key: str) -> int | None:
    return size.get(key) if hasattr(size, "get") else getattr(size, key, None)


@runtime_checkable
class Peer(Protocol):
    """One family, for a range of `model_type`s of transformers."""

    @property
    def model_types(self) -> tuple[str, ...]:
        """What a `config.json` calls its members."""
        ...

    @property
    def image(self) -> str:
        """What an image becomes, in words."""
        ...

    @property
    def marker(self) -> str:
        """What stands for an image in a chat template; "" where it is the image token itself."""
        ...

    @property
    def plain(self) -> str:
        """The prompt of a checkpoint without a chat template, with {image} and {message} in it."""
        ...

    @property
    def note(self) -> str:
        """What a reader of every picture of a member should know; "" for nothing."""
        ...

    @property
    def missing(self) -> str:
        """What is open or not supported of it, for the table of models; "" for nothing."""
        ...

    @property
    def thumbnail(self) -> bool:
        """Whether images that become tiles become a thumbnail as well."""
        ...

    @property
    def kinds(self) -> tuple[int, int, int]:
        """What its class calls a token of the prompt's text, of the image, and of the answer, where it asks."""
        ...

    def grid(self, settings: PeerSettings) -> tuple[int, int] | None:
        """(R, C) of the tokens of every image; None where it differs from image to image."""
        ...

    def arrange(self, image_size: tuple[int, int], settings: PeerSettings) -> Arrangement:
        """Where the tokens of an image of (W, H) pixels lie."""
        ...

    def written(self, arrangement: Arrangement, token: str) -> str:
        """The text of one image, each of whose tokens is `token`."""
        ...

    def canvas(
        self, pixels: Mapping[str, np.ndarray], arrangement: Arrangement, settings: PeerSettings
    ) -> Float[np.ndarray, "H W 3"]:
        """What the image processor made of an image, laid out as the tiles of the finest grid lie side by side."""
        ...


def one_tile(pixels: Mapping[str, np.ndarray]) -> Float[np.ndarray, "H W 3"]:
    """What the processor made of an image that becomes one tile."""
    return rearrange(pixels["pixel_values"], "1 c h w -> h w c")


def tiles_in_place(
    pixels: Mapping[str, np.ndarray], tiles: tuple[int, int], *, first: int = 0
) -> Float[np.ndarray, "H W 3"]:
    """Tiles of what the processor made of an image, in their places.

    Args:
        pixels: what it made: one tile after another.
        tiles: rows and columns.
        first: where they begin.
    """
    values = pixels["pixel_values"]
    values = values[0] if values.ndim == 5 else values
    rows, columns = tiles
    return rearrange(
        values[first : first + rows * columns], "(R C) c h w -> (R h) (C w) c", R=rows, C=columns
    )


def squashed(image_size: tuple[int, int], height: int, width: int) -> tuple[Axis, Axis]:
    """The axes of an image that is resized to a height and a width, whatever its own."""
    return (
        Axis(length=image_size[0], pad=0, resized=width, crop=0),
        Axis(length=image_size[1], pad=0, resized=height, crop=0),
    )


def token_grid(
    axes: tuple[Axis, Axis], grid: tuple[int, int], patch: int, *, tile: int = 0, pitch: int = 0
) -> TokenGrid:
    """A grid of tokens over a resized image.

    Args:
        axes: x and y, from the original image to all tiles side by side.
        grid: rows and columns of tokens.
        patch: what a token stands for, pixels of the resized image.
        tile: tokens of a tile's side, where what its patches leave of it lies between tiles.
        pitch: pixels from one tile to the next.
    """
    x, y = (
        TokenAxis(count=count, patch=patch, axis=axis, tile=tile, pitch=pitch)
        for count, axis in zip(grid[::-1], axes, strict=True)
    )
    return TokenGrid(x=x, y=y)


def one_grid(
    image_size: tuple[int, int], axes: tuple[Axis, Axis], grid: tuple[int, int], patch: int
) -> Arrangement:
    """An image that becomes one grid of tokens, row by row."""
    geometry = TileGeometry(image_size=image_size, grids=(token_grid(axes, grid, patch),))
    return Arrangement(geometry=geometry, order=np.arange(geometry.n_tokens))


def tile_by_tile(rows: int, columns: int, side: int) -> Int[np.ndarray, " T"]:
    """Of each token of all tiles' grid, row-major, its number where tiles follow one another, each row-major."""
    numbers = np.arange(rows * columns * side * side)
    return rearrange(numbers, "(R C i j) -> (R i C j)", R=rows, C=columns, i=side, j=side)


def tiles_and_thumbnail(
    image_size: tuple[int, int], tiles: tuple[int, int], side: int, patch: int, pitch: int
) -> Arrangement:
    """An image that is resized to whole tiles of side × side tokens, which come first, then its thumbnail.

    Args:
        image_size: (W, H), pixels.
        tiles: their rows and columns; a single tile, or none, is the whole image at the size of one.
        side: tokens of a tile's side.
        patch: what a token stands for, pixels of a tile.
        pitch: pixels of a tile's side.
    """
    rows, columns = tiles
    small = token_grid(squashed(image_size, pitch, pitch), (side, side), patch)
    if rows * columns <= 1:
        geometry = TileGeometry(image_size=image_size, grids=(small,))
        return Arrangement(geometry=geometry, order=np.arange(side * side), tiles=tiles)
    axes = squashed(image_size, rows * pitch, columns * pitch)
    whole = token_grid(axes, (rows * side, columns * side), patch, tile=side, pitch=pitch)
    geometry = TileGeometry(image_size=image_size, grids=(whole, small))
    order = np.concatenate([tile_by_tile(rows, columns, side), np.arange(side * side) + geometry.n_tokens])
    return Arrangement(geometry=geometry, order=order, tiles=tiles)


def pair_of(value: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) of what a configuration has as one number or two."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
