"""A row of the table, and how times become one."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True)
class Row:
    """One thing that was measured."""

    what: str
    """What, in words."""
    median: float
    low: float
    """The first quartile."""
    high: float
    """The third quartile."""
    rounds: int
    """How often it was measured."""
    unit: str = "×"
    goal: float | None = None
    """None: measured for comparison."""
    at_most: bool = True
    """Whether the goal is a ceiling; a floor otherwise."""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the goal; None without one."""
        if self.goal is None:
            return None
        return self.median <= self.goal if self.at_most else self.median >= self.goal

    def line(self) -> str:
        """The row of a Markdown table."""
        goal = "" if self.goal is None else f"{'≤' if self.at_most else '≥'} {self.goal:g} {self.unit}"
        verdict = {None: "", True: "met", False: f"missed by {self._missed:.0%}"}[self.met]
        spread = f"{number(self.low)} – {number(self.high)}"
        return (
            f"| {self.what} | {number(self.median)} {self.unit} | {spread} | {self.rounds} | {goal} | {verdict} "
            f"| {self.note} |"
        )

    def record(self) -> dict[str, Any]:
        """The row for JSON."""
        return {**asdict(self), "met": self.met}

    @property
    def _missed(self) -> float:
        goal = self.goal or 1.0
        return abs(self.median / goal - 1)


HEADING = "| what | median | middle half | rounds | goal | | |\n|---|---|---|---|---|---|---|"


def number(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def of(what: str, values: Sequence[float], **fields: Any) -> Row:
    """A row from repeated measurements."""
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    low, high = max(low, min(values)), min(high, max(values))  # of two values the quartiles lie outside
    return Row(what=what, median=statistics.median(values), low=low, high=high, rounds=len(values), **fields)


def interleaved(
    calls: Mapping[str, Callable[[], object]], *, rounds: int, budget: float = 20.0
) -> dict[str, list[float]]:
    """Seconds of each call in each round: all calls take turns, so that what else the machine does hits all alike.

    The first turn is not counted. On one thread the clock is the process's CPU time.

    Args:
        calls: what to time, by name.
        rounds: at most this many.
        budget: seconds after which no further round begins, once there were three.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    found: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    begun = time.perf_counter()
    for done in range(rounds):
        if done >= 3 and time.perf_counter() - begun > budget:
            break
        for name, call in calls.items():
            start = clock()
            call()
            found[name].append(clock() - start)
    return found


def ratios(times: Mapping[str, Sequence[float]], above: str, below: str) -> list[float]:
    """How many times longer one call took than another, round by round."""
    return [a / b for a, b in zip(times[above], times[below], strict=True)]
