"""What the server keeps of each open page: its results, for as long as there is room, and whom they belong to."""

import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from apps.explorer.news import News
from apps.explorer.state import Asked, Recent, RunResult
from emma_viz.errors import InputError

KEPT_SESSIONS = 64
KEPT_STATES = 2_000_000_000
"""Bytes of results that all sessions together may keep: states, decoded pixels, images."""
KEPT_RUNS = 8
"""Results of one page that can be flipped between, as long as there is room for them."""
KEPT_PINS = 4
"""Of those, the ones that can be pinned."""
IDLE_SECONDS = 6 * 3600


@dataclass
class Session:
    """What one open page has; nobody else's page can name it."""

    numbers: Iterator[int]
    """Where the numbers of runs come from: a page outlives its session, so those of the next session go on."""
    visitor: str = ""
    """Whose uploads it may use (`Uploads`)."""
    page: str = ""
    """Gradio's name of the page."""
    news: News | None = None
    """Of the run that goes on."""
    evidence: News | None = None
    """Of the evidence that is being measured."""
    stopped: int = -1
    """Questions up to this ticket are stopped, whether they have begun or not."""
    changing: threading.Lock = field(default_factory=threading.Lock)
    """Held while a run begins, is stopped, or has its result kept: it is one of these first."""
    results: dict[int, RunResult] = field(default_factory=dict)
    """By the numbers of their runs, the oldest first; each answers another question."""
    pinned: set[int] = field(default_factory=set)
    """Runs that do not make room for newer ones."""
    masked: str = ""
    """Hash of the image that was painted over last, as long as no run has asked about it."""
    run: int = 0
    """Number of the newest result."""
    shown: int = 0
    """Number of the result that the page asked about last."""
    used: float = field(default_factory=time.monotonic)

    def begin(self, ticket: int, news: News) -> bool:
        """Begin the run of a ticket, unless it was stopped before; returns whether it may."""
        with self.changing:
            if ticket <= self.stopped:
                return False
            self.news = news
            return True

    def keep(self, result: RunResult) -> int:
        """Keep a new result, and drop what is too old or answers the same; returns the number of its run."""
        self.run = self.shown = next(self.numbers)
        again = [run for run, each in list(self.results.items()) if each.asked == result.asked]
        if not self.pinned.isdisjoint(again):
            self.pinned.add(self.run)
        self.results[self.run] = result
        for run in again:
            self.drop(run)
        old = [run for run in list(self.results) if run not in self.pinned and run != self.run]
        for run in old[: max(len(self.results) - KEPT_RUNS, 0)]:
            self.drop(run)
        return self.run

    def drop(self, run: int) -> None:
        """Forget a result, if it is there."""
        self.results.pop(run, None)
        self.pinned.discard(run)

    def stop(self, ticket: int) -> None:
        """Stop the runs of this ticket and of all before it, also those that are still to begin."""
        with self.changing:
            self.stopped = max(self.stopped, ticket)
            if self.news is not None:
                self.news.leave()


class Sessions:
    """All sessions, each under a secret that only its own page knows."""

    def __init__(self, *, size: int = KEPT_SESSIONS, states: int = KEPT_STATES, idle: float = IDLE_SECONDS):
        self._kept: Recent[Session] = Recent(size)
        self._states, self._idle = states, idle
        self._opening, self._numbers = threading.Lock(), count(1)

    def open(self, visitor: str = "", page: str = "") -> str:
        """Begin a visitor's session; returns its secret."""
        secret = secrets.token_urlsafe(24)
        self._kept.put(secret, Session(self._numbers, visitor=visitor, page=page))
        self.tidy()
        return secret

    def of(self, visitor: str, page: str) -> str:
        """The secret of the session of a visitor's page, which begins when the page is first heard of.

        No event of a page must be the first: on a slow line an image can arrive, or Run be pressed, before the page
        has heard that it was opened.
        """
        with self._opening:
            for secret, session in self._kept.items():
                if (session.visitor, session.page) == (visitor, page):
                    return secret
            return self.open(visitor, page)

    def get(self, secret: object) -> Session:
        """The session of a secret.

        Raises:
            InputError: there is none, or it was idle for too long.
        """
        session = self._kept.get(secret) if isinstance(secret, str) else None
        if session is None:
            raise InputError("This page's session has ended; reload the page.")
        session.used = time.monotonic()
        return session

    def store(self, secret: str, result: RunResult) -> int:
        """Keep a session's new result beside its last ones; returns the number of the run."""
        run = self.get(secret).keep(result)
        self.tidy()
        return run

    def result(self, secret: str, run: int) -> RunResult:
        """The result of a run.

        Raises:
            InputError: it is no longer kept.
        """
        session = self.get(secret)
        if (found := session.results.get(run)) is None:
            raise InputError("This result is no longer kept; press Run again.")
        session.shown = run
        return found

    def pin(self, secret: str, run: int, *, pinned: bool) -> None:
        """Keep a result when newer ones come, or let it go as the others.

        Raises:
            InputError: it is no longer kept, or too many are pinned.
        """
        self.result(secret, run)
        own = self.get(secret).pinned
        if not pinned:
            own.discard(run)
            return
        if len(own - {run}) >= KEPT_PINS:
            raise InputError(f"{KEPT_PINS} runs are pinned, which is as many as can be; release one of them.")
        own.add(run)

    def close(self, secret: str) -> None:
        """Forget a session."""
        self._kept.drop(secret)

    def __len__(self) -> int:
        return len(self._kept.items())

    def tidy(self) -> None:
        """Forget idle sessions, and results beyond the bytes that all may keep.

        Of every page the result that it shows goes last, those that are pinned before it, and the others first; among
        these the oldest page's.
        """
        now = time.monotonic()
        for secret, session in self._kept.items():
            if now - session.used > self._idle:
                self._kept.drop(secret)
        left, counted = self._states, set[int]()
        ranked = [
            (run != session.shown, run not in session.pinned, age, -run, session)
            for age, (_, session) in enumerate(reversed(self._kept.items()))
            for run in list(session.results)
        ]
        for number, (*_, run, session) in enumerate(sorted(ranked, key=lambda each: each[:4])):
            if (result := session.results.get(-run)) is None:
                continue
            if id(result) not in counted:  # two pages of one link share it
                left -= result.size
                counted.add(id(result))
            if left < 0 and number:  # what the newest page shows is always kept
                session.drop(-run)

    def alike(self, asked: Asked) -> RunResult | None:
        """A result that answers the same, with every model, if any page still has one."""
        for _, session in reversed(self._kept.items()):
            for result in reversed(list(session.results.values())):
                if result.asked == asked and not result.failed:
                    return result
        return None
