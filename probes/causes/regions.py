"""Which image tokens a causal probe touches, and which it touches instead, to be compared with."""

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from emma_viz.checkpoints import LoadedModel
from emma_viz.data.image_grid import ImageGrid
from emma_viz.evidence.case import Case
from emma_viz.evidence.regions import COVERED, covered_tokens
from emma_viz.evidence.replacements import image_tokens
from probes.protocol import Batch, Subject

DRAWS = 10
"""Random sets of as many tokens."""


def region(
    subject: Subject, geometry: ImageGrid, *, covered: float = COVERED
) -> Bool[np.ndarray, "R C"] | None:
    """The patches of what the question is about, and those beside them; None where nobody knows.

    The patches beside are taken as well, because an image encoder mixes neighbours.

    Args:
        subject: whose target.
        geometry: of its image.
        covered: a patch is the object's when the object covers so much of it; of 0, whatever it touches.
    """
    if subject.mask is None or not subject.target:
        return None
    return covered_tokens(subject.mask == subject.target, geometry, covered=covered)


def elsewhere(place: Bool[np.ndarray, "R C"]) -> Bool[np.ndarray, "R C"]:
    """A region of the same shape as far away as the grid allows, round its edges, where it does not meet itself."""
    rows, columns = place.shape
    shifts = sorted(
        ((r, c) for r in range(rows) for c in range(columns)),
        key=lambda shift: (abs(shift[0] - rows / 2) + abs(shift[1] - columns / 2), shift),
    )
    moved = (np.roll(place, shift, axis=(0, 1)) for shift in shifts)
    return min(moved, key=lambda other: int((other & place).sum()))


def random_sets(place: Bool[np.ndarray, "R C"], *, count: int = DRAWS, seed: str = "") -> list[np.ndarray]:
    """As many tokens as a region has, drawn from the rest of the image; fewer where the rest is smaller."""
    rest = np.flatnonzero(~place.ravel())
    draw = np.random.default_rng(zlib.crc32(seed.encode()))
    size = min(int(place.sum()), len(rest))
    return [np.sort(draw.choice(rest, size, replace=False)) for _ in range(count)]


def window(layer: int, depth: int) -> tuple[int, ...]:
    """A sixth of the layers, at least two where there are as many, about one; moved inwards at the ends."""
    size = min(depth, max(2, round(depth / 6)))
    first = min(max(layer - size // 2, 0), depth - size)
    return tuple(range(first, first + size))


class Means:
    """The mean image token of images, each of which is embedded once for each model."""

    def __init__(self):
        self._known: dict[tuple[str, int], Tensor] = {}

    def of(self, model: LoadedModel, subjects: Sequence[Subject]) -> Float[Tensor, " D"]:
        """The mean token over all tokens of some images."""
        return torch.stack([self._one(model, each) for each in subjects]).mean(dim=0)

    def _one(self, model: LoadedModel, subject: Subject) -> Tensor:
        key = (model.info.fingerprint, subject.number)
        if key not in self._known:
            self._known[key] = image_tokens(model, subject.image, subject.prompt).mean(dim=0)
        return self._known[key]


def case_of(batch: Batch, index: int) -> Case:
    """One subject of a batch as a case."""
    assert batch.model is not None
    subject = batch.subjects[index]
    return Case.of(batch.model, subject.image, subject.prompt, words=subject.words)
