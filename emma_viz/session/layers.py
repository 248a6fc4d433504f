"""Which of the decoded layers a picture shows."""

from collections.abc import Sequence

import numpy as np

from emma_viz.errors import InputError
from emma_viz.shapes import EMBEDDING

DEFAULT_COLUMNS = 5
"""Layers that a figure shows when none are asked for, spread over the depth."""


def shown_layers(decoded: Sequence[int], wanted: tuple[int | str, ...] | None, name: str) -> tuple[int, ...]:
    """The layers that a picture shows of one model.

    Args:
        decoded: the layers there are.
        wanted: what was asked for (`View.layers`).
        name: of the model, for messages.

    Raises:
        InputError: a layer that was asked for was not decoded, or a word is none.
    """
    blocks = [layer for layer in decoded if layer != EMBEDDING] or list(decoded)
    if wanted is None:
        spread = np.linspace(0, len(blocks) - 1, min(DEFAULT_COLUMNS, len(blocks)))
        return tuple(blocks[round(position)] for position in spread)
    if "all" in wanted:
        return (EMBEDDING, *blocks) if EMBEDDING in wanted and EMBEDDING in decoded else tuple(blocks)
    ends = {"first": blocks[0], "last": blocks[-1]}
    if unknown := [each for each in wanted if isinstance(each, str) and each not in ends]:
        raise InputError(f"expected layers as numbers, 'first', 'last' or 'all', got {unknown[0]!r}.")
    chosen = [ends[each] if isinstance(each, str) else each for each in wanted]
    if missing := [layer for layer in chosen if layer not in decoded]:
        raise InputError(
            f"expected layers that the lens of {name} decodes ({_spans(decoded)}), got "
            f"{', '.join(map(str, missing))} as well."
        )
    return tuple(dict.fromkeys(chosen))


def _spans(layers: Sequence[int]) -> str:
    """Layers in words: runs as first–last."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
