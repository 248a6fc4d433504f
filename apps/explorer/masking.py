"""A place of an image painted over, to see what the models say without it."""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from apps.explorer.places import extent_of
from apps.explorer.state import Painted, RunResult
from emma_viz.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Masked:
    """What is known of an image that was painted over."""

    file: str
    """What the image's file was called before."""
    converted: bool
    """Whether its colour profile, if it has one, was converted."""
    painted: tuple[Painted, ...]
    """What was painted, in order."""


def mask(result: RunResult, model: int, region: tuple[int, int, int, int]) -> tuple[Image.Image, str, Masked]:
    """Paint a place in the mean colour of the rest of its image.

    Args:
        result: of a live run.
        model: the row whose patches the region counts.
        region: first row and column, last row and column, of patches.

    Returns:
        The painted image, its name, and what was done to it.

    Raises:
        InputError: the result comes from a study, there is no such place, or nothing would be left.
    """
    if not result.traces:
        raise InputError("This needs the models, and the study was opened without them.")
    if not 0 <= model < len(result.rows):
        raise InputError("There is no such row.")
    place = result.comparison.decodings[model].geometry[result.sample]
    top, left, bottom, right = region
    rows, columns = place.grid
    if not (0 <= top <= bottom < rows and 0 <= left <= right < columns):
        raise InputError("There is no such place in the image.")
    image = result.comparison.decodings[model].images[result.sample]
    edges = np.array(extent_of(region, place)) * np.array([*image.size, *image.size])
    low = np.floor(edges[:2] + 1e-6).astype(int).clip(0)
    high = np.ceil(edges[2:] - 1e-6).astype(int).clip(None, image.size)
    rest = np.ones((image.height, image.width), bool)
    rest[low[1] : high[1], low[0] : high[0]] = False
    if not rest.any() or rest.all():
        raise InputError("The place is the whole image, or outside of it; keep a smaller one.")
    colour = tuple(int(each) for each in np.asarray(image)[rest].mean(axis=0).round())
    painted = Painted(box=(int(low[0]), int(low[1]), int(high[0]), int(high[1])), colour=colour)
    found = image.copy()
    found.paste(painted.colour, painted.box)
    name = result.comparison.image_names[result.sample].removesuffix(", masked")
    done = Masked(file=result.file, converted=result.converted, painted=(*result.painted, painted))
    return found, f"{name}, masked", done


def said_of(result: RunResult) -> list[str]:
    """What was painted over, in words."""
    found = []
    for each in result.painted:
        left, top, right, bottom = each.box
        found.append(
            f"Masked: columns {left}–{right - 1} and rows {top}–{bottom - 1} of the image's pixels were painted in the "
            f"mean colour of the rest, {each.colour}, before the models saw it."
        )
    return found


def with_mask(result: RunResult, done: Masked | None) -> RunResult:
    """The result with what was done to its image."""
    if done is None:
        return result
    return replace(result, file=done.file, converted=done.converted, painted=done.painted)
