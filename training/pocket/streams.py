"""Scenes and questions about them, in batches that are a function of their number."""

from collections.abc import Sequence

import numpy as np

from emma_viz.data.tabletop import SceneTurn, caption_turn, make_scene, questions, stream

FIRST_QUESTIONS = 2
"""Purpose number of a scene's first random stream of questions; epoch e uses FIRST_QUESTIONS + e."""


class SceneStream:
    """Training scenes with single-turn questions about each; a batch is a function of its step.

    Each epoch is a fresh permutation of all scenes and asks new questions.

    Args:
        batch: scenes a batch.
        scenes: training scenes 0 … scenes − 1.
        seed: of the permutations.
        captions: ask for the caption alone.
    """

    def __init__(self, *, batch: int, scenes: int, seed: Sequence[int], captions: bool = False):
        self.batch, self.scenes, self.seed, self.captions = batch, scenes, list(seed), captions

    def batch_of(self, step: int) -> tuple[np.ndarray, list[tuple[int, SceneTurn]]]:
        """Scene numbers of one step, and for each question its scene's place in the batch."""
        positions = np.arange(step * self.batch, (step + 1) * self.batch)
        numbers = np.empty(self.batch, dtype=np.int64)
        turns: list[tuple[int, SceneTurn]] = []
        for epoch in np.unique(positions // self.scenes):
            order = np.random.default_rng([*self.seed, int(epoch)]).permutation(self.scenes)
            for place in np.flatnonzero(positions // self.scenes == epoch):
                numbers[place] = order[positions[place] % self.scenes]
                turns += [(int(place), turn) for turn in self._asked(int(numbers[place]), int(epoch))]
        return numbers, turns

    def _asked(self, number: int, epoch: int) -> list[SceneTurn]:
        scene = make_scene("train", number)
        if self.captions:
            return [caption_turn(scene)]
        return questions(scene, stream("train", number, FIRST_QUESTIONS + epoch))
