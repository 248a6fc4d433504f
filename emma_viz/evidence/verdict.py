"""Whether one map names tokens that matter: the fall without those it ranks highest, against random sets of as many."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from emma_viz.errors import InputError

SHARE = 0.1
"""Of the tokens, those that are taken away."""
_SURE = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdict:
    """What happens without a map's highest tokens, beside what happens without random ones."""

    fall: float
    """Nats, without the tokens that the map ranks highest."""
    random: Float[np.ndarray, " n"]
    """The falls without as many random ones, each set its own."""
    maps: int = 1
    """How many maps are judged together, this one included: p is Holm's bound for the largest of them."""

    def __post_init__(self):
        if not (np.isfinite(self.fall) and np.isfinite(self.random).all()):
            raise InputError(
                "expected finite falls, got NaN or infinite ones: what the model says is not a number here, and no map "
                "can be judged by it."
            )

    @property
    def p(self) -> float:
        """The share of sets, the map's own included, whose fall is as large; times the number of maps."""
        level = int(np.count_nonzero(self.random >= self.fall))
        return min(1.0, self.maps * (1 + level) / (1 + len(self.random)))

    @property
    def beats(self) -> bool:
        """Whether the map beats random sets."""
        return self.p <= _SURE

    @property
    def said(self) -> str:
        """In a few words, for a picture."""
        count = len(self.random)
        return f"beats {count} random sets" if self.beats else f"does not beat {count} random sets"


def controls_for(maps: int) -> int:
    """How many random sets are needed at least so that each of some maps, judged together, can beat them."""
    return round(maps / _SURE) - 1


def judge(
    values: Float[np.ndarray, "*axes"],
    falls: Callable[[Sequence[np.ndarray]], Sequence[float]],
    *,
    maps: int = 1,
    seed: int = 0,
) -> Verdict | None:
    """Take a map's highest tokens away, and as many random ones, again and again.

    Args:
        values: of the tokens; the highest are taken.
        falls: what is lost without each of some sets of tokens, nats.
        maps: how many are judged together.
        seed: of the random sets.

    Returns:
        the verdict; None where a fall is no number, by which nothing can be judged.

    Raises:
        InputError: there is no token, or no map.
    """
    if not values.size or maps < 1:
        raise InputError(f"expected tokens and at least one map, got {values.size} and {maps}.")
    flat, draw = values.ravel(), np.random.default_rng(seed)
    size = max(1, round(SHARE * flat.size))
    highest = np.argsort(-flat, kind="stable")[:size]
    drawn = [draw.choice(flat.size, size, replace=False) for _ in range(controls_for(maps))]
    own, *others = falls([highest, *drawn])
    if not np.isfinite([own, *others]).all():
        return None
    return Verdict(fall=float(own), random=np.array(others, np.float64), maps=maps)
