"""Which records a step sees: a function of its number, whatever the number of processes."""

from functools import lru_cache

import numpy as np

from emma_viz.errors import TrainingError

GROUPED = 16
"""Batches whose records are drawn together and sorted by length, so that little of a batch is padding."""


class BatchPlan:
    """Batches of similar length, each with images alone or with text alone.

    Every epoch is a fresh permutation. The records of each kind are cut into groups of GROUPED batches, a group is
    sorted by length and cut into batches, and all batches are shuffled. When a kind's last batch is not full it is
    filled with the epoch's first records of that kind, so every record is seen at least once an epoch.

    Args:
        rows: the records that take part.
        lengths: tokens of each of them.
        has_image: whether each has an image.
        batch: records of a step, over all processes and accumulated parts together.
        seed: of the permutations.
    """

    def __init__(
        self, rows: np.ndarray, lengths: np.ndarray, has_image: np.ndarray, *, batch: int, seed: int
    ):
        if not len(rows) or batch < 1:
            raise TrainingError(f"A plan needs records and batches; got {len(rows)} and {batch}.")
        self.batch, self.seed = batch, seed
        self.partial = not np.all(has_image)
        """Whether there are batches without images, which leave the projector out."""
        self._kinds = [
            (rows[kept], lengths[kept])
            for kept in (np.asarray(has_image), ~np.asarray(has_image))
            if kept.any()
        ]
        self.steps_per_epoch = sum(-(-len(kind) // batch) for kind, _ in self._kinds)
        self._epoch = lru_cache(maxsize=2)(self._draw)

    def batch_of(self, step: int) -> np.ndarray:
        """The records of a step, ascending in length."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self._epoch(epoch)[place]

    def share_of(self, step: int, *, rank: int, world: int, micro: int) -> list[np.ndarray]:
        """What one process takes of a step, in parts of at most `micro` records.

        Each process takes every world-th record, so that all have records of like length.

        Raises:
            TrainingError: the batch cannot be shared evenly.
        """
        if self.batch % world:
            raise TrainingError(
                f"A batch of {self.batch} records cannot be shared by {world} processes; make the batch a multiple "
                "of their number (--batch)."
            )
        mine = self.batch_of(step)[rank::world]
        return [mine[start : start + micro] for start in range(0, len(mine), micro)]

    def _draw(self, epoch: int) -> np.ndarray:
        batches = []
        for kind, (rows, lengths) in enumerate(self._kinds):
            order = np.random.default_rng([self.seed, 0, epoch, kind]).permutation(len(rows))
            order = np.resize(order, -(-len(order) // self.batch) * self.batch)
            for start in range(0, len(order), GROUPED * self.batch):
                group = order[start : start + GROUPED * self.batch]
                group = group[np.argsort(lengths[group], kind="stable")]
                batches.append(rows[group].reshape(-1, self.batch))
        drawn = np.concatenate(batches)
        return drawn[np.random.default_rng([self.seed, 1, epoch]).permutation(len(drawn))]
