"""Pictures of the photo world: one photograph that fills the picture, or 1–5 of them on a ground."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from emma_viz.data.photos.library import Photograph, of_category
from emma_viz.data.tabletop.backgrounds import WEIGHTS, draw_background
from emma_viz.data.tabletop.scenes import SPLITS
from emma_viz.errors import InputError

PHOTO_SIDE = 256
"""Side of a picture, pixels."""

WHOLE_PHOTO = "whole"
"""Ground of a picture that one photograph fills."""

PHOTO_MIDLINE = 10
"""Centres keep this far from the lines between left and right, top and bottom, pixels: "where" has one answer."""

_NUMBER_SHARES = (0.2, 0.25, 0.25, 0.2, 0.1)
"""Shares of scenes that are meant to have 1 to 5 photographs."""
_LARGEST = (176, 124, 112, 104, 96)
"""Longest side of a photograph in a scene of 1 to 5, pixels."""
_SMALLEST = 0.75
"""The shortest that the longest side can be, over the largest."""
_AGAIN = 0.25
"""How often the next photograph of a scene is of the same category as the last."""
_TRIES = 120


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A photograph in a picture, in pixels.

    Attributes:
        photo: its place among the photographs of the split.
        category: number in PHOTO_CATEGORIES.
        left: first column.
        top: first row.
        width: columns.
        height: rows.
        mirrored: left and right are swapped.
    """

    photo: int
    category: int
    left: int
    top: int
    width: int
    height: int
    mirrored: bool

    @property
    def x(self) -> float:
        """Column of the centre."""
        return self.left + self.width / 2

    @property
    def y(self) -> float:
        """Row of the centre."""
        return self.top + self.height / 2

    @property
    def quarter(self) -> str:
        """Where the centre lies, such as "top left"."""
        return f"{'top' if self.y < PHOTO_SIDE / 2 else 'bottom'} {'left' if self.x < PHOTO_SIDE / 2 else 'right'}"


@dataclass(frozen=True, kw_only=True)
class PhotoScene:
    """The plan of a picture; draw it with `draw`.

    Attributes:
        ground: what the photographs lie on, or WHOLE_PHOTO.
        things: the photographs.
        seed: of the random stream that draws the ground.
    """

    ground: str
    things: tuple[Placed, ...]
    seed: tuple[int, ...]

    @property
    def whole(self) -> bool:
        """Whether one photograph fills the picture."""
        return self.ground == WHOLE_PHOTO

    def count(self, category: int) -> int:
        """How many photographs are of a category."""
        return sum(thing.category == category for thing in self.things)

    @property
    def categories(self) -> tuple[int, ...]:
        """The categories that are there, each once, in order."""
        return tuple(sorted({thing.category for thing in self.things}))


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A drawn picture.

    Attributes:
        image: uint8 (256, 256, 3).
        mask: uint8 (256, 256): 0 is ground, n is `scene.things[n - 1]`.
    """

    image: np.ndarray
    mask: np.ndarray


def make_single(photos: Sequence[Photograph], number: int, *, mirrored: bool = False) -> PhotoScene:
    """The picture that one photograph fills, its aspect not kept (as models are shown pictures by default)."""
    thing = Placed(
        photo=number,
        category=photos[number].category,
        left=0,
        top=0,
        width=PHOTO_SIDE,
        height=PHOTO_SIDE,
        mirrored=mirrored,
    )
    return PhotoScene(ground=WHOLE_PHOTO, things=(thing,), seed=())


def plan_scene(photos: Sequence[Photograph], split: str, index: int) -> PhotoScene:
    """Lay out a scene of 1–5 photographs that do not touch, on a plain, woven, wooden or photographic ground.

    All categories are equally likely, however many photographs they have.

    Args:
        photos: those of the split, from `PhotoLibrary.split`.
        split: "train", "val" or "test"; splits share no random stream.
        index: the scene's number, 0 or more.

    Raises:
        InputError: for an unknown split or a negative number.
    """
    if split not in SPLITS or index < 0:
        raise InputError(
            f"A scene has a split of {', '.join(SPLITS)} and a number of 0 or more; got {split!r}, {index}."
        )
    seed = (11, SPLITS[split], index)
    rng = np.random.default_rng([*seed, 0])
    pools = of_category(photos)
    present = [number for number, pool in enumerate(pools) if pool]
    wanted = int(rng.choice(5, p=_NUMBER_SHARES)) + 1
    things: list[Placed] = []
    for _ in range(wanted):
        again = bool(things) and rng.random() < _AGAIN
        category = things[-1].category if again else present[int(rng.integers(len(present)))]
        photo = pools[category][int(rng.integers(len(pools[category])))]
        longest = round(_LARGEST[wanted - 1] * rng.uniform(_SMALLEST, 1.0))
        mirrored = bool(rng.random() < 0.5)
        with Image.open(photos[photo].path) as image:
            columns, rows = image.size
        width, height = (max(16, round(longest * n / max(columns, rows))) for n in (columns, rows))
        if (place := _free_place(things, width, height, rng)) and all(
            photo != thing.photo for thing in things
        ):
            left, top = place
            things.append(
                Placed(
                    photo=photo,
                    category=category,
                    left=left,
                    top=top,
                    width=width,
                    height=height,
                    mirrored=mirrored,
                )
            )
    ground = str(rng.choice(list(WEIGHTS), p=list(WEIGHTS.values())))
    return PhotoScene(ground=ground, things=tuple(things), seed=seed)


def _free_place(
    things: Sequence[Placed], width: int, height: int, rng: np.random.Generator
) -> tuple[int, int] | None:
    for _ in range(_TRIES):
        left, top = (
            int(rng.integers(0, PHOTO_SIDE - width + 1)),
            int(rng.integers(0, PHOTO_SIDE - height + 1)),
        )
        if (
            min(abs(left + width / 2 - PHOTO_SIDE / 2), abs(top + height / 2 - PHOTO_SIDE / 2))
            < PHOTO_MIDLINE
        ):
            continue
        if all(
            left >= other.left + other.width
            or other.left >= left + width
            or top >= other.top + other.height
            or other.top >= top + height
            for other in things
        ):
            return left, top
    return None


def draw_photos(scene: PhotoScene, photos: Sequence[Photograph]) -> Drawn:
    """Draw a picture.

    Args:
        scene: from `make_single` or `plan_scene`.
        photos: those that it was planned with.
    """
    pixels = np.zeros((PHOTO_SIDE, PHOTO_SIDE, 3), dtype=np.uint8)
    if not scene.whole:
        ground = draw_background(scene.ground, PHOTO_SIDE, np.random.default_rng([*scene.seed, 1]))
        pixels[:] = np.round(ground * 255)
    mask = np.zeros((PHOTO_SIDE, PHOTO_SIDE), dtype=np.uint8)
    for number, thing in enumerate(scene.things, start=1):
        piece = photos[thing.photo].open().resize((thing.width, thing.height), Image.Resampling.BICUBIC)
        values = np.asarray(piece)
        window = (slice(thing.top, thing.top + thing.height), slice(thing.left, thing.left + thing.width))
        pixels[window] = values[:, ::-1] if thing.mirrored else values
        mask[window] = number
    return Drawn(image=pixels, mask=mask)
