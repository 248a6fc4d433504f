"""Which pixels of the original image an image token stands for, exactly, for every resize strategy.

The towers cut the model's S×S input into whole patches of p pixels, from the top left; what is left of
S after R·p (6 of 384 pixels for p = 14) is seen by no patch. Each axis is an affine map of its own, taken
from the integers the transform really uses (padding, resized length, crop), so nothing is approximated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Float32, UInt8

from emma_viz.cells import Spans
from emma_viz.data.image_grid import Axis, ImageGrid
from emma_viz.errors import InputError

Strategy = Literal["resize-naive", "resize-crop", "letterbox"]
"""resize-naive squashes to S×S; resize-crop resizes the shorter side to S and crops the centre;
letterbox pads to a square with the tower's mean colour first, then does as resize-crop."""

STRATEGIES: tuple[str, ...] = get_args(Strategy)


def plan(strategy: str, image_size: tuple[int, int], size: int) -> tuple[Axis, Axis]:
    """The x and the y axis of a resize strategy, in the integers of the released code.

    The source is Cobra's and EMMA's vision backbones: torchvision's Resize and CenterCrop with timm's
    settings, where the released code takes timm's enlargement before the crop away, and their LetterboxPad,
    which pads both sides by half the difference, rounded down (so an odd difference leaves the padded image
    one pixel off square, and the resize is again of the shorter side, with a centre crop).

    Args:
        strategy: one of STRATEGIES.
        image_size: (W, H) of the original image, pixels.
        size: S, the side of the model's input, pixels.

    Raises:
        InputError: the strategy is unknown, or a length is not positive.
    """
    width, height = image_size
    if min(width, height, size) < 1:
        raise InputError(
            f"expected positive sizes, got an image of {width}×{height} for an input of {size} pixels"
        )
    if strategy not in STRATEGIES:
        raise InputError(f"unknown resize strategy {strategy!r}: expected one of {', '.join(STRATEGIES)}")
    if strategy == "resize-naive":
        return _axes(image_size, pads=(0, 0), resized=(size, size), crops=(0, 0))
    longest = max(image_size) if strategy == "letterbox" else 0
    pads = [max(longest - n, 0) // 2 for n in image_size]
    padded = [n + 2 * pad for n, pad in zip(image_size, pads, strict=True)]
    resized = [int(size * n / min(padded)) for n in padded]
    # Python's round (half to even) is what the centre crop of the released pipeline uses.
    crops = [round((n - size) / 2) for n in resized]
    return _axes(image_size, pads=pads, resized=resized, crops=crops)


def _axes(
    lengths: Sequence[int], *, pads: Sequence[int], resized: Sequence[int], crops: Sequence[int]
) -> tuple[Axis, Axis]:
    x, y = (Axis(length=lengths[i], pad=pads[i], resized=resized[i], crop=crops[i]) for i in range(2))
    return x, y


@dataclass(frozen=True, kw_only=True)
class Geometry(ImageGrid):
    """The map between the tokens of one image and its original pixels.

    Tokens are numbered row-major from the top left; boxes are floats in original pixels.
    """

    image_size: tuple[int, int]
    """(W, H) of the original image, pixels."""
    strategy: str
    """One of STRATEGIES."""
    size: int
    """S, the side of the model's input, pixels."""
    patch: int
    """p, the side of a patch, pixels of the model's input."""

    def __post_init__(self):
        if not 1 <= self.patch <= self.size:
            raise InputError(f"a patch of {self.patch} pixels does not fit an input of {self.size} pixels")
        plan(self.strategy, self.image_size, self.size)

    @property
    def view_size(self) -> tuple[int, int]:
        """S twice: what no patch sees is part of the view."""
        return self.size, self.size

    @property
    def grid(self) -> tuple[int, int]:
        """(R, C), rows and columns of patches."""
        return self.size // self.patch, self.size // self.patch

    @cached_property
    def axes(self) -> tuple[Axis, Axis]:
        """The maps of x and of y."""
        return plan(self.strategy, self.image_size, self.size)

    @cached_property
    def edges(self) -> tuple[Float[np.ndarray, " x_edges"], Float[np.ndarray, " y_edges"]]:
        """Where the columns (C + 1 positions) and the rows (R + 1) begin and end, in original pixels."""
        rows, columns = self.grid
        x, y = self.axes
        return (
            x.to_image(np.arange(columns + 1, dtype=np.float64) * self.patch),
            y.to_image(np.arange(rows + 1, dtype=np.float64) * self.patch),
        )

    @property
    def spans(self) -> tuple[Spans, Spans]:
        """Each ends where the next begins."""
        xs, ys = self.edges
        return (xs[:-1], xs[1:]), (ys[:-1], ys[1:])


def true_patches(
    views: UInt8[np.ndarray, "B height width c"], geometry: Sequence[ImageGrid]
) -> Float32[np.ndarray, "B T p p c"]:
    """The pixels in [0, 1] that each image token stands for."""
    patches = [place.patches(view) for view, place in zip(views, geometry, strict=True)]
    return np.stack(patches).astype(np.float32) / np.float32(255)
