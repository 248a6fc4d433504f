"""Batches of images with many questions about each, whose states are computed once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from emma_viz.data.prompts import PromptStyle
from emma_viz.data.tabletop import SceneTurn
from emma_viz.data.tokenizer import Tokenizer
from training.vision_language.batch import BatchImages, BatchShare, ForkedBatch, make_forks
from training.vision_language.recipe import Recipe


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneBatches:
    """Makes the batches of any step. Each epoch of a phase is a fresh permutation of the images, and asks anew.

    Attributes:
        recipe: its seed and phases count.
        style: the model's prompt style.
        tokenizer: the model's.
        count: training images, by number from 0.
        shown: numbers → the images.
        asked: (phase, number, epoch) → the questions about an image; a function of its arguments alone.
    """

    recipe: Recipe
    style: PromptStyle
    tokenizer: Tokenizer
    count: int
    shown: Callable[[np.ndarray], BatchImages]
    asked: Callable[[int, int, int], list[SceneTurn]]

    def share_of(self, step: int) -> BatchShare:
        """The whole step: such a run has one process."""
        phase, rows, turns = self.drawn(step)
        forks = make_forks(turns, self.tokenizer, self.style)
        batch = ForkedBatch(images=self.shown(rows), forks=forks, pooled=self.recipe.phases[phase].pooled)
        return BatchShare(parts=(batch,), images=len(rows))

    def drawn(self, step: int) -> tuple[int, np.ndarray, list[tuple[int, SceneTurn]]]:
        """A step's phase, the numbers of its images, and for each question its image's place in the batch."""
        phase, place = self.recipe.phase_of(step)
        batch, seed = self.recipe.phases[phase].batch, self.recipe.seed
        positions = np.arange(place * batch, (place + 1) * batch)
        numbers = np.empty(batch, dtype=np.int64)
        turns: list[tuple[int, SceneTurn]] = []
        for epoch in np.unique(positions // self.count):
            order = np.random.default_rng([seed, phase, int(epoch)]).permutation(self.count)
            for row in np.flatnonzero(positions // self.count == epoch):
                numbers[row] = order[positions[row] % self.count]
                turns += [(int(row), turn) for turn in self.asked(phase, int(numbers[row]), int(epoch))]
        return phase, numbers, turns
