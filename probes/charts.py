"""Charts as plain values: what the report draws with Plotly and, for paper, with matplotlib."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line, or one row of bars."""

    name: str
    y: Sequence[float]
    """NaN is a gap."""
    at: Sequence[float] | None = None
    """Where each value stands on an axis of numbers, rising; None: at the names `x` of its chart, in order."""
    low: Sequence[float] | None = None
    """Lower ends of intervals."""
    high: Sequence[float] | None = None
    model: int = 0
    """Which model it is about: gives the colour."""
    control: bool = False
    """Drawn dashed and grey beside the numbers that must beat it."""


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Curves over layers, or over anything that has an order.

    Raises:
        ValueError: a series has not as many places as values.
    """

    name: str
    """Of its files; unique in a probe."""
    title: str
    x: Sequence[str] = ()
    """What the places are called; none where the series stand on an axis of numbers."""
    x_title: str
    y_title: str
    series: Sequence[Series]
    caption: str = ""
    """What a reader should see, and what not."""

    def __post_init__(self):
        for each in self.series:
            if (len(each.y) > len(self.x)) if each.at is None else (len(each.at) != len(each.y)):
                raise ValueError(
                    f"{self.name}: expected a place for each of {len(each.y)} values of {each.name}."
                )

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Round places on an axis of numbers, and what they are called; -1 is the embedding."""
        places = sorted({place for each in self.series for place in each.at or ()})
        if not places:
            return []
        last = places[-1]
        if any(place % 1 for place in places):
            return [(0.0, "0"), (0.5, "0.5"), (1.0, "1")]
        step = next(
            each for size in (1, 10, 100, 1000) for each in (size, 2 * size, 5 * size) if last / each <= 10
        )
        named = [
            (float(each), str(each))
            for each in range(0, int(last) + 1, step)
            if places[0] >= 0 or each + 1 > step / 2
        ]
        return [(-1.0, "emb."), *named] if places[0] < 0 else named


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Numbers side by side, each with its interval."""

    name: str
    title: str
    x: Sequence[str]
    y_title: str
    series: Sequence[Series]
    caption: str = ""
    x_title: str = ""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One small map."""

    title: str
    values: Float[np.ndarray, "R C"]


@dataclass(frozen=True, kw_only=True)
class Grids:
    """Small maps in one colour scale, rows of `columns` each."""

    name: str
    title: str
    panels: Sequence[Panel]
    columns: int
    value_title: str
    signed: bool = False
    """Whether 0 is the middle of the scale."""
    caption: str = ""


Chart = Lines | Bars | Grids


def places_in_kind(series: Sequence[Series]) -> list[int]:
    """For each series how many of the same model and kind stand before it: what of one colour is told apart by."""
    kinds = [(each.model, each.control) for each in series]
    return [kinds[:index].count(kind) for index, kind in enumerate(kinds)]


def scale_end(chart: Grids) -> float:
    """Where the colours of its maps end: the 98th percentile of the sizes, so that one loud patch hides no other."""
    sizes = _sizes(chart)
    return float(np.percentile(sizes, 98)) or float(sizes.max()) or 1.0 if sizes.size else 1.0


def beyond_scale(chart: Grids) -> str:
    """What is said beside the colours where sizes lie beyond their end; "" where none does."""
    end = scale_end(chart)
    count = int((_sizes(chart) > end).sum())
    return f"{count} patch{'es' * (count != 1)} beyond {end:.3g}" if count else ""


def _sizes(chart: Grids) -> np.ndarray:
    return np.concatenate([np.abs(panel.values[np.isfinite(panel.values)]).ravel() for panel in chart.panels])
