"""What the page's script asks of the server, as it must be said, and the sentence when it is refused."""

import logging
import re
from dataclasses import dataclass, field
from typing import TypeVar

from emma_viz.errors import EmmaVizError, InputError
from emma_viz.files.schema import shape

logger = logging.getLogger(__name__)

_Kind = TypeVar("_Kind")

_FOLDERS = re.compile(r"(?<![\w:./])(?:~|\.{0,2})/(?:[^\s/,;:()'\"]+/)+")
"""Folders of the server, which are nobody's business; the names of files stay."""


@dataclass(frozen=True, kw_only=True)
class OfRun:
    """A question about a run."""

    session: str = ""
    run: int = -1


@dataclass(frozen=True, kw_only=True)
class OfPlaces(OfRun):
    """A question about an image token of each model; None where a model has none."""

    places: tuple[int | None, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OfWord(OfRun):
    """A question about a word of a model's answer, or about several that follow one another."""

    model: int
    word: int
    last: int | None = None
    """The last of several."""
    method: str = ""
    """A key of `LENS_METHODS`; "" for the server's own."""


@dataclass(frozen=True, kw_only=True)
class OfPin(OfRun):
    """A wish that a run is kept when newer ones come, or no longer."""

    pinned: bool


@dataclass(frozen=True, kw_only=True)
class OfRegion(OfRun):
    """A question about a place of the image."""

    model: int
    """The row whose patches are counted."""
    region: tuple[int, int, int, int]
    """First row and column, last row and column."""


@dataclass(frozen=True, kw_only=True)
class OfPlaceOfWord(OfWord):
    """A question about a word and a place of the image."""

    row: int
    """Whose patches are counted."""
    region: tuple[int, int, int, int]
    """First row and column, last row and column."""


@dataclass(frozen=True, kw_only=True)
class OfTicket:
    """A question about all questions of a page up to a ticket."""

    session: str
    ask: int


@dataclass(frozen=True, kw_only=True)
class OfView(OfRun):
    """A wish for a file of what is on the page."""

    format: str
    """What `save_view` writes."""
    layers: tuple[int, ...] = ()
    """Per model, its layer on the page, which the picture shows among others."""
    kind: str = "distance"
    """Of map."""
    scale: str = "shared"
    """`shared`, `per_row`, `per_map` or MIN:MAX."""
    colours: str = "viridis"
    """The colour table."""
    difference: bool = False
    """Also show the difference of two models."""
    pair: tuple[int, int] = (0, 1)
    """Which two, the first minus the second, in the order of the page."""
    look: dict[str, str] = field(default_factory=dict)
    """How the page looks, its order of models included; what links do not have is left out."""


def read(said: dict, kind: type[_Kind]) -> _Kind:
    """A question as the page said it; what it says besides is left out.

    Raises:
        InputError: a value is missing, or not as it must be.
    """
    return shape(said, kind, where="the request", error=InputError, spare=True)


def sentence(error: Exception) -> str:
    """What went wrong, for the page; the log has the rest of what was not foreseen."""
    if isinstance(error, EmmaVizError):
        return _FOLDERS.sub("", str(error))
    if isinstance(error, MemoryError):
        return "The server has not enough memory for this; try a smaller model or a shorter answer."
    logger.error("a request failed", exc_info=error)
    return f"Something went wrong on the server ({type(error).__name__}); its log says what."
