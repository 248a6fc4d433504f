"""What is told of work that goes on, between the thread that does it and those who wait."""

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_EVERY = 0.08
"""Seconds between two of the news, at the least."""


class Abandoned(Exception):  # noqa: N818 (nothing went wrong)
    """The visitor left before the run was over."""


@dataclass
class News:
    """What a run has to say so far; written by the run, read by the page's stream."""

    message: str = "waiting for the models"
    done: int = 0
    total: int = 0
    models: list[dict] = field(default_factory=list)
    """Per model, {name, answer, busy}."""
    changed: threading.Event = field(default_factory=threading.Event)
    left: bool = False
    """Whether nobody listens any more; the run then stops at its next word."""
    ending: threading.Event = field(default_factory=threading.Event)
    """Set when the server ends; the run then stops, too."""

    def say(self, done: int, total: int, message: str) -> None:
        """Progress, as `emma_viz` reports it.

        Raises:
            Abandoned: nobody listens any more.
        """
        if self.left or self.ending.is_set():
            raise Abandoned
        self.done, self.total, self.message = done, total, message
        self.changed.set()

    def leave(self) -> None:
        """Nobody listens any more."""
        self.left = True
        self.changed.set()

    def as_json(self) -> dict:
        """The news as the canvas's `busy` takes them."""
        return {"message": self.message, "done": self.done, "total": self.total, "models": self.models}

    def told(self, ended: threading.Event, about: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The news on the way, until a run ends or nobody listens.

        Args:
            ended: set when it does; sets `changed`, too.
            about: what each of them says besides.
        """
        while not (ended.is_set() or self.left):
            self.changed.wait(1.0)
            self.changed.clear()
            if not (ended.is_set() or self.left):
                yield {"stage": "busy", **about, **json.loads(json.dumps(self.as_json()))}
                ended.wait(_EVERY)
