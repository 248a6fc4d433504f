"""What people wrote about a case: a history that only grows, and what it says now."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import msgspec

from emma_viz.cases.case import CaseText, storable
from emma_viz.errors import InputError
from emma_viz.files.schema import require_ranges

CASE_VERDICTS = {
    "hallucination": "an answer affirms or names what is not there",
    "miss": "an answer denies or leaves out what is there",
    "right": "the answers are right, whatever was counted",
    "label": "the benchmark's own label is wrong or can be disputed",
    "unclear": "it cannot be decided",
}
"""Verdict → what it means."""

EventKind = Literal["verdict", "note", "tag", "untag", "answer", "undo"]
_LIMITS = {"note": 20_000, "tag": 80, "untag": 80}
"""Characters of a value."""


@dataclass(frozen=True, kw_only=True)
class CaseEvent:
    """One thing that was written. It is never changed: what is undone is followed by an event that says so.

    Raises:
        InputError: the value is none for its kind, or the author has no name.
    """

    kind: EventKind
    """`answer`: the text of an answer that was replaced by a newer one."""
    value: CaseText
    """The verdict, the note, the tag; the id of the event that is undone."""
    author: Annotated[str, msgspec.Meta(min_length=1, max_length=120)]
    """Who wrote it."""
    at: Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$")] = field(
        default_factory=lambda: _clock(datetime.now(UTC))
    )
    """When, in UTC."""
    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")] = field(
        default_factory=lambda: secrets.token_hex(16)
    )
    """Known by it wherever the case goes."""

    def __post_init__(self):
        require_ranges(self, error=InputError)
        _time(self.at)
        storable(self.author, what="an author's name")
        storable(self.value, what=f"a {self.kind}")
        if not self.author.strip():
            raise InputError("expected the name of an author, got white space.")
        if self.kind == "verdict" and self.value not in (*CASE_VERDICTS, ""):
            raise InputError(
                f"expected one of the verdicts {', '.join(CASE_VERDICTS)}, got {self.value!r:.80}."
            )
        if self.kind in _LIMITS and not 0 < len(self.value.strip()) <= len(self.value) <= _LIMITS[self.kind]:
            raise InputError(
                f"expected a {self.kind} of 1 to {_LIMITS[self.kind]} characters, got {len(self.value)}."
            )

    def after(self, at: str) -> "CaseEvent":
        """The same, later than a time: histories are in the order of their times, also where clocks differ.

        Args:
            at: the time, as in `at`.

        Raises:
            InputError: no time is later.
        """
        if self.at > at:
            return self
        try:
            later = _clock(_time(at) + timedelta(microseconds=1))
        except OverflowError as error:
            raise InputError(
                f"no event can follow one of {at}; whoever wrote that changed the casebook."
            ) from error
        return CaseEvent(kind=self.kind, value=self.value, author=self.author, at=later, id=self.id)


@dataclass(frozen=True, kw_only=True)
class Review:
    """What the history of a case says now."""

    verdict: str
    """One of `CASE_VERDICTS`; "" where nobody has judged, or it was taken back."""
    tags: tuple[str, ...]
    """In the order of the alphabet."""
    notes: tuple[CaseEvent, ...]
    """Those that stand, oldest first."""
    undone: frozenset[str]
    """The ids of events that are undone."""


def review(events: Iterable[CaseEvent]) -> Review:
    """What a history says now. An undone event counts as if it had never been; so does an undone undoing.

    Args:
        events: in any order.
    """
    ordered = oldest_first(events)
    undone: set[str] = set()
    # Only a later event undoes an earlier one; seen from the end, whether it stands itself is known already.
    for event in reversed(ordered):
        if event.kind == "undo" and event.id not in undone:
            undone.add(event.value)
    verdict, tags, notes = "", set(), []
    for event in ordered:
        if event.id in undone:
            continue
        if event.kind == "verdict":
            verdict = event.value
        elif event.kind == "tag":
            tags.add(event.value)
        elif event.kind == "untag":
            tags.discard(event.value)
        elif event.kind == "note":
            notes.append(event)
    return Review(verdict=verdict, tags=tuple(sorted(tags)), notes=tuple(notes), undone=frozenset(undone))


def oldest_first(events: Iterable[CaseEvent]) -> Sequence[CaseEvent]:
    """Oldest first; those of one time in an order that is the same everywhere."""
    return sorted(events, key=lambda event: (event.at, event.id))


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"expected a time of the calendar, got {text!r:.40}.") from error


def _clock(now: datetime) -> str:
    return now.replace(tzinfo=None).isoformat(timespec="microseconds")
