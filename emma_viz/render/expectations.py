"""What the fields of a figure must be."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import numpy as np

from emma_viz.errors import InputError

_LONGEST = 100_000
"""Characters of the longest text in a figure."""
FARTHEST = 1e4
"""How many widths or heights of its image a patch grid may reach."""
HIGHEST_NUMBER = 1e30
"""The largest size of a colour limit."""


def expect_shape(what: str, array: np.ndarray, shape: Iterable[int | None]) -> None:
    """Refuse an array of another shape, or without an element; None is any length.

    Raises:
        InputError: it is.
    """
    expected = tuple(shape)
    fits = array.ndim == len(expected) and all(
        want is None or have == want for have, want in zip(array.shape, expected, strict=True)
    )
    if not fits or 0 in array.shape:
        names = ", ".join("any" if want is None else str(want) for want in expected)
        raise InputError(f"{what}: expected an array of shape ({names}), got {array.shape}.")


def expect_extent(where: str, extent: tuple[float, float, float, float]) -> None:
    """Refuse a rectangle that is none, or far outside its image.

    Raises:
        InputError: it is.
    """
    left, top, right, bottom = extent
    if not (np.abs(extent).max() <= FARTHEST and left < right and top < bottom):
        raise InputError(
            f"{where}: expected an extent (left < right, top < bottom) in fractions of at most {FARTHEST:.0f}, "
            f"got {extent}."
        )


def expect_limits(what: str, limits: np.ndarray) -> None:
    """Refuse colour limits that are not finite or not in order.

    Raises:
        InputError: it is.
    """
    # In half precision the bound itself would overflow.
    if not (np.abs(limits.astype(np.float64)) <= HIGHEST_NUMBER).all() or (limits[:, 0] > limits[:, 1]).any():
        raise InputError(
            f"{what}: expected finite colour limits of at most {HIGHEST_NUMBER:g}, the lowest first, "
            f"got {limits[:50].tolist()}."
        )


def expect_words(value: Any) -> None:
    """Refuse long texts in the fields of a dataclass: no picture has room for them, and measuring text takes time.

    Raises:
        InputError: one is too long.
    """
    for field in fields(value):
        item = getattr(value, field.name)
        for text in item if field.name == "notes" else (item,):
            if isinstance(text, str) and len(text) > _LONGEST:
                raise InputError(
                    f"{field.name}: expected at most {_LONGEST} characters, got {len(text)}: {text[:40]!r}…"
                )
