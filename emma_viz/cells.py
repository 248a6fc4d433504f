"""The cells of one axis of a grid: where each begins and ends, and which of them holds a position."""

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

Spans = tuple[Float[np.ndarray, "_"], Float[np.ndarray, "_"]]
"""Where each of some cells begins and where it ends, ascending."""


def cell_of(
    span: Spans, positions: Shaped[np.ndarray, "*n"]
) -> tuple[Int[np.ndarray, "*n"], Bool[np.ndarray, "*n"]]:
    """The last cell that begins at or before each position (0 where none does), and whether it holds it.

    A cell holds where it begins, not where it ends.
    """
    starts, ends = span
    cell = np.searchsorted(starts, positions, side="right") - 1
    own = np.asarray(np.maximum(cell, 0))
    return own, np.asarray((cell >= 0) & (positions < ends[own]))
