"""Scenes of the tabletop world: laid out and drawn from a split and a number, the same on every machine."""

from dataclasses import dataclass

import numpy as np

from emma_viz.data.tabletop.backgrounds import WEIGHTS, draw_background
from emma_viz.data.tabletop.bank import ANGLE_STEP, sprite
from emma_viz.data.tabletop.charts import ChartPicture, draw_chart, outline, plan_chart
from emma_viz.data.tabletop.kinds import KIND_INDEX, KINDS, TABLE_KINDS
from emma_viz.errors import InputError

SIZE = 128
"""Side of a scene, pixels."""

CHARTS = 0.12
"""Share of the scenes that are charts."""

_SIZES = (30, 35, 40, 46, 52)
"""Sides an object can have, pixels."""

SPLITS = {"train": 0, "val": 1, "test": 2}
"""Split → the number that enters its random streams, so that no two splits share a scene."""

MIDLINE = 5
"""Objects keep this far from the lines between left and right, top and bottom, pixels: "where" has one answer."""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One object of a scene: its kind and colour ("" when fixed), centre (x, y), size and angle.

    A chart's bars and lines are things too, as large as the longer side of what they take up.
    """

    kind: str
    colour: str
    x: int
    y: int
    size: int
    angle: int

    @property
    def quarter(self) -> str:
        """Where its centre lies: "top left", "top right", "bottom left" or "bottom right"."""
        return f"{'top' if self.y < SIZE / 2 else 'bottom'} {'left' if self.x < SIZE / 2 else 'right'}"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The plan of one scene; draw it with `draw_scene`.

    Attributes:
        split: "train", "val" or "test".
        index: its number in the split.
        surface: kind of background.
        things: the objects, in the order in which they are painted.
        chart: for a chart, what it shows; `things[n]` is then the bar or line of `chart.series[n]`.
    """

    split: str
    index: int
    surface: str
    things: tuple[Thing, ...]
    chart: ChartPicture | None = None

    def count(self, kind: str) -> int:
        """How many objects of one kind there are."""
        return sum(thing.kind == kind for thing in self.things)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that are there, each once, in the order of KINDS."""
        return tuple(sorted({thing.kind for thing in self.things}, key=KIND_INDEX.__getitem__))


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """A drawn scene.

    Attributes:
        image: uint8 (128, 128, 3).
        mask: uint8 (128, 128): 0 is background, n is `scene.things[n - 1]`, exact after occlusion.
    """

    image: np.ndarray
    mask: np.ndarray


def stream(split: str, index: int, purpose: int = 0) -> np.random.Generator:
    """The random stream of one scene; `purpose` parts its layout (0), its drawing (1) and its questions (2…)."""
    if split not in SPLITS:
        raise InputError(f"A tabletop split is one of {', '.join(SPLITS)}; got {split!r}.")
    if index < 0:
        raise InputError(f"A scene's number is 0 or more; got {index}.")
    return np.random.default_rng([7, SPLITS[split], index, purpose])


def make_scene(split: str, index: int) -> Scene:
    """Lay out one scene: a chart, or 1–5 objects, some of a kind, many beside their usual companions.

    Args:
        split: "train", "val" or "test"; splits share no random stream.
        index: the scene's number, 0 or more, without an upper end.

    Raises:
        InputError: for an unknown split or a negative number.
    """
    rng = stream(split, index)
    if rng.random() < CHARTS:
        chart = plan_chart(rng)
        return Scene(split=split, index=index, surface=chart.paper, things=_chart_things(chart), chart=chart)
    surface = str(rng.choice(list(WEIGHTS), p=list(WEIGHTS.values())))
    things: list[Thing] = []
    for _ in range(int(rng.choice([1, 2, 3, 4, 5], p=[0.12, 0.23, 0.27, 0.23, 0.15]))):
        kind = KINDS[KIND_INDEX[_next_kind(things, rng)]]
        colour = str(rng.choice(kind.palette)) if kind.palette else ""
        size = int(rng.choice(_SIZES))
        angle = int(rng.integers(-kind.tilt // ANGLE_STEP, kind.tilt // ANGLE_STEP + 1)) * ANGLE_STEP
        place = _free_place(things, size, rng)
        if place is not None:
            things.append(
                Thing(kind=kind.name, colour=colour, x=place[0], y=place[1], size=size, angle=angle)
            )
    return Scene(split=split, index=index, surface=surface, things=tuple(things))


def _chart_things(chart: ChartPicture) -> tuple[Thing, ...]:
    things = []
    for series, points in zip(chart.series, outline(chart), strict=True):
        (left, top), (right, bottom) = np.min(points, axis=0), np.max(points, axis=0)
        x, y = (left + right) // 2, (top + bottom) // 2
        size = max(right - left, bottom - top)
        things.append(
            Thing(kind=chart.form, colour=series.colour, x=int(x), y=int(y), size=int(size), angle=0)
        )
    return tuple(things)


def _next_kind(things: list[Thing], rng: np.random.Generator) -> str:
    if things:
        last = things[int(rng.integers(len(things)))].kind
        chance = rng.random()
        if chance < 0.25:
            return last
        if chance < 0.55:
            return str(rng.choice(KINDS[KIND_INDEX[last]].companions))
    return str(rng.choice([kind.name for kind in TABLE_KINDS], p=_SHARES))


_SHARES = np.array([kind.weight for kind in TABLE_KINDS]) / sum(kind.weight for kind in TABLE_KINDS)


def _free_place(things: list[Thing], size: int, rng: np.random.Generator) -> tuple[int, int] | None:
    margin = size // 2 - 2
    for _ in range(80):
        x, y = (int(v) for v in rng.integers(margin, SIZE - margin, 2))
        if abs(x - SIZE / 2) < MIDLINE or abs(y - SIZE / 2) < MIDLINE:
            continue
        if all(np.hypot(x - o.x, y - o.y) > 0.46 * (size + o.size) for o in things):
            return x, y
    return None


def draw_scene(scene: Scene) -> Rendering:
    """Draw a scene: a chart, or a background and then each object over its shadow.

    Returns:
        The image and its exact object mask.
    """
    if scene.chart:
        image, mask = draw_chart(scene.chart, stream(scene.split, scene.index, purpose=1))
        return Rendering(image=image, mask=mask)
    pixels = draw_background(scene.surface, SIZE, stream(scene.split, scene.index, purpose=1))
    mask = np.zeros((SIZE, SIZE), dtype=np.uint8)
    for number, thing in enumerate(scene.things, start=1):
        piece = sprite(thing.kind, thing.colour, thing.size, thing.angle)
        half = piece.alpha.shape[0] // 2
        top, left = thing.y - half, thing.x - half
        rows, source_rows = _overlap(top, piece.alpha.shape[0])
        columns, source_columns = _overlap(left, piece.alpha.shape[1])
        window = pixels[rows, columns]
        window *= 1 - piece.shadow[source_rows, source_columns, None]
        alpha = piece.alpha[source_rows, source_columns]
        window += alpha[..., None] * (piece.colour[source_rows, source_columns] / np.float32(255) - window)
        mask[rows, columns][alpha > 0.5] = number
    return Rendering(image=np.round(pixels * 255).astype(np.uint8), mask=mask)


def _overlap(start: int, length: int) -> tuple[slice, slice]:
    """The part of [start, start + length) inside the scene, in the scene's and in the sprite's coordinates."""
    low, high = max(start, 0), min(start + length, SIZE)
    return slice(low, high), slice(low - start, high - start)
