"""Which images a lens is fitted and measured on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emma_viz.data.images import image_hash, read_image
from emma_viz.errors import ImageError, TrainingError
from emma_viz.records.complaints import Complaints
from emma_viz.records.questions import find_questions
from emma_viz.session.options import LensRecipe

FEWEST = 4
"""Images that a lens is fitted and measured on at least."""


@dataclass(frozen=True, kw_only=True)
class FitImages:
    """The images of a lens, by their hashes."""

    fit: dict[str, Path]
    """To fit on."""
    held_out: dict[str, Path]
    """Others, to measure on."""


def choose_images(data: Any, images: Path | None, recipe: LensRecipe, *, fewer: bool = False) -> FitImages:
    """Different images, in an order that the seed decides, as many as the lens needs.

    Images that cannot be read, and copies of one that was chosen, are left out.

    Args:
        data: a folder, a glob, or a list of records (`emma_viz.records.questions`); their questions are not used.
        images: folder that the records' images are relative to; None: that of their list.
        recipe: how many, and the seed.
        fewer: take what there is, in the same proportion, when there are fewer.

    Raises:
        TrainingError: there are too few, or too many cannot be used.
        InputError: there is none.
    """
    complaints = Complaints(recipe.broken_limit, where=str(data))
    paths = list(
        dict.fromkeys(
            question.image
            for question in find_questions(
                data,
                default="",
                folder=images,
                on_error=lambda error: complaints.add(len(complaints), error),
            )
        )
    )
    wanted = recipe.fit + recipe.held_out
    chosen: dict[str, Path] = {}
    for place in np.random.default_rng(recipe.seed).permutation(len(paths)):
        if len(chosen) == wanted:
            break
        try:
            chosen.setdefault(image_hash(read_image(paths[place])), paths[place])
        except ImageError as error:
            complaints.add(len(complaints), str(error))
    if len(chosen) < (FEWEST if fewer else wanted):
        raise TrainingError(
            f"{data} has {len(chosen)} different images that can be read; {FEWEST if fewer else wanted} are needed"
            + (
                "."
                if fewer
                else f" (--fit-images {recipe.fit} and --held-out {recipe.held_out}). Ask for fewer."
            )
        )
    first = recipe.fit if len(chosen) == wanted else round(len(chosen) * recipe.fit / wanted)
    first = min(max(first, 1), len(chosen) - 1)
    pairs = list(chosen.items())
    return FitImages(fit=dict(pairs[:first]), held_out=dict(pairs[first:]))
