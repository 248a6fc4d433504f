"""Scenes and questions about them, in batches that are a function of their number."""

from collections.abc import Callable, Sequence

import numpy as np

from emma_viz.data.tabletop import SceneTurn, caption_turn, make_scene, questions, stream
from training.loop.config import Phase

FIRST_QUESTIONS = 2
"""Purpose number of a scene's first random stream of questions; epoch e uses FIRST_QUESTIONS + e."""


class SceneStream:
    """Training images with single-turn questions about each; a batch is a function of its step.

    Each epoch is a fresh permutation of all of them and asks new questions.

    Args:
        batch: images a batch.
        count: images 0 … count − 1.
        seed: of the permutations.
        asked: (image, epoch) → the questions about it.
    """

    def __init__(
        self, *, batch: int, count: int, seed: Sequence[int], asked: Callable[[int, int], list[SceneTurn]]
    ):
        self.batch, self.count, self.seed, self.asked = batch, count, list(seed), asked

    def batch_of(self, step: int) -> tuple[np.ndarray, list[tuple[int, SceneTurn]]]:
        """Image numbers of one step, and for each question its image's place in the batch."""
        positions = np.arange(step * self.batch, (step + 1) * self.batch)
        numbers = np.empty(self.batch, dtype=np.int64)
        turns: list[tuple[int, SceneTurn]] = []
        for epoch in np.unique(positions // self.count):
            order = np.random.default_rng([*self.seed, int(epoch)]).permutation(self.count)
            for place in np.flatnonzero(positions // self.count == epoch):
                numbers[place] = order[positions[place] % self.count]
                turns += [(int(place), turn) for turn in self.asked(int(numbers[place]), int(epoch))]
        return numbers, turns


def asked_of_scene(phases: Sequence[Phase], phase: int, number: int, epoch: int) -> list[SceneTurn]:
    """What an epoch of a phase asks about a training scene of the tabletop."""
    scene = make_scene("train", number)
    if phases[phase].captions:
        return [caption_turn(scene)]
    return questions(scene, stream("train", number, FIRST_QUESTIONS + epoch))
