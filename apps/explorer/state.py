"""What the server keeps for all: loaded models, images that links may name; and what the result of a run is."""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from PIL import Image

from emma_viz.capture import Trace
from emma_viz.checkpoints import LoadedModel
from emma_viz.errors import InputError
from emma_viz.evidence.attribution import Word
from emma_viz.progress import Progress
from emma_viz.session import Comparison, Running
from emma_viz.session.comparison import load
from emma_viz.session.row_names import row_names

Kept = TypeVar("Kept")
Phrase = tuple[int, int, int, str]
"""Words whose evidence is shown: their row, the first and the last of them, and how it is found."""

KEPT_IMAGES = 64
KEPT_PIXELS = 200_000_000
"""Pixels of images that links can name; 3 bytes each."""
KEPT_MODELS = 4


class Recent(Generic[Kept]):
    """A dictionary of bounded size that forgets what was used longest ago. Safe for threads."""

    def __init__(self, size: int):
        self._size, self._items, self._lock = size, OrderedDict[str, Kept](), threading.Lock()

    def get(self, key: str) -> Kept | None:
        """What is kept under a key, which counts as a use."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def put(self, key: str, item: Kept) -> None:
        """Keep an item, and forget the oldest beyond the size."""
        with self._lock:
            self._items[key] = item
            self._items.move_to_end(key)
            while len(self._items) > self._size:
                self._items.popitem(last=False)

    def drop(self, key: str) -> None:
        """Forget an item, if it is there."""
        with self._lock:
            self._items.pop(key, None)

    def items(self) -> list[tuple[str, Kept]]:
        """A copy, the oldest first."""
        with self._lock:
            return list(self._items.items())


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a result answers: enough to ask it again, and to make a link of it."""

    image_hash: str
    prompt: str
    models: tuple[str, ...] = ()
    """Labels of the models, as the page offers them."""
    lens: tuple[str, ...] = ()
    """Labels of the lenses; each model is shown under each."""
    site: tuple[str, ...] = ("",)
    """Hook sites, "" for the lens's own; each model is shown at each."""
    tokens: int = 64
    """The longest answer that was allowed."""
    entries: tuple[str, ...] = ()
    """Entries of the study, when one is open."""

    def as_json(self) -> dict[str, Any]:
        """Its fields, by the names that links use."""
        found = asdict(self)
        return {"image": found.pop("image_hash"), **found}


@dataclass(frozen=True, kw_only=True)
class ShownRow:
    """One row of the page: a model, under one lens, at one site."""

    model: str
    """The model's label."""
    lens: str
    """The lens's label."""
    site: str
    """The hook site that was asked for; "" for the lens's own."""
    name: str
    """What the row is called."""


@dataclass(frozen=True, kw_only=True)
class Painted:
    """A rectangle of an image that was painted over."""

    box: tuple[int, int, int, int]
    """Left, top, right and bottom, pixels; the right and the bottom are outside."""
    colour: tuple[int, ...]
    """Red, green and blue."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RunResult:
    """One run: what the page shows, and what further questions about it need."""

    asked: Asked
    comparison: Comparison
    sample: int = 0
    """Which image of the comparison."""
    traces: tuple[Trace, ...] = ()
    """One per row, with the states of resid_post; rows of one model have the same. Empty for a study."""
    words: tuple[tuple[Word, ...], ...] = ()
    """Per row, its model's answer in words."""
    rows: tuple[ShownRow, ...] = ()
    """The rows, as `comparison` has their decodings; empty for a study."""
    failed: tuple[tuple[str, str], ...] = ()
    """(label, sentence) of the models that did not answer, or could not be decoded as asked."""
    study: Path | None = None
    """The study it comes from; None for a live run."""
    number: int = 0
    """Which question of the study."""
    file: str = ""
    """What the image's file was called where it was brought."""
    converted: bool = False
    """Whether its colour profile, if it has one, was converted to sRGB."""
    painted: tuple[Painted, ...] = ()
    """What was painted over in the image, in order."""
    evidence: dict[Phrase, dict] = field(default_factory=dict)
    """What was said of the evidence of words, so that it can be saved as it was seen."""

    @property
    def models(self) -> tuple[str, ...]:
        """Labels of the models, a row each; empty for a study."""
        return tuple(row.model for row in self.rows)

    @property
    def names(self) -> tuple[str, ...]:
        """What the rows are called."""
        return tuple(row.name for row in self.rows) or row_names(self.comparison.decodings)

    @property
    def size(self) -> int:
        """Bytes of the recorded states, of what was decoded from them, and of the image. A study's decodings are
        shared by all that look at it, and count for nobody."""
        if self.study is not None:
            return 0
        states = sum(
            tensor.numel() * tensor.element_size()
            for trace in {id(each): each for each in self.traces}.values()
            for tensor in trace.states.values()
        )
        decoded = sum(
            each.patches.nbytes + each.true.nbytes + each.views.nbytes for each in self.comparison.decodings
        )
        images = self.comparison.decodings[0].images[self.sample]
        return states + decoded + 3 * images.width * images.height


class Turns:
    """A lock for one thread at a time, which may take it again; those who wait get it in the order they came."""

    def __init__(self):
        self._lock, self._queue = threading.Lock(), deque[threading.Event]()
        self._holder, self._depth = 0, 0

    def __enter__(self) -> None:
        mine = threading.get_ident()
        with self._lock:
            if self._holder in (0, mine) and (self._holder or not self._queue):
                self._holder, self._depth = mine, self._depth + 1
                return
            turn = threading.Event()
            self._queue.append(turn)
        turn.wait()
        self._holder = mine

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth:
                return
            self._holder = -1 if self._queue else 0
            if self._queue:  # handed over, so that nobody comes between
                self._depth = 1
                self._queue.popleft().set()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._queue)

    def let_others(self) -> None:
        """Give those who wait a turn; for a thread that has taken it once."""
        self.__exit__()
        self.__enter__()


class Models:
    """The models that may be asked, loaded when they are first needed and shared by all sessions.

    Only one thread at a time may run them (`running`): hooks that watch a run would see another's.

    Args:
        sources: label → what `load_model` takes. Labels are all that a page can name.
        options: how they are loaded.
        keep: how many stay loaded.
    """

    def __init__(self, sources: Mapping[str, str], options: Running, *, keep: int = KEPT_MODELS):
        self.sources, self._options = dict(sources), options
        self._loaded: Recent[LoadedModel] = Recent(keep)
        self.running = Turns()

    def get(self, label: str, progress: Progress | None = None) -> LoadedModel:
        """A model, loaded if need be.

        Raises:
            InputError: there is no model of that label.
            CheckpointError: it cannot be read.
        """
        if label not in self.sources:
            raise InputError(
                f"There is no model {label!r} here; choose one of {', '.join(self.sources) or 'none'}."
            )
        with self.running:
            model = self._loaded.get(label)
            if model is None:
                model = load(self.sources[label], self._options, progress)
                self._loaded.put(label, model)
            return model


class Images:
    """Images by hash, so that a link can name them.

    A hash is the SHA-256 of all pixels: only who has the image, or was given its link, can name it.

    Args:
        examples: hash → name and image, which are kept for good.
        keep: further images that are kept.
        pixels: of those, together.
        others: where an image is looked for that is not kept, as in a casebook.
    """

    def __init__(
        self,
        examples: Mapping[str, tuple[str, Image.Image]],
        *,
        keep: int = KEPT_IMAGES,
        pixels: int = KEPT_PIXELS,
        others: Callable[[str], tuple[str, Image.Image] | None] | None = None,
    ):
        self._examples, self._pixels, self._others = dict(examples), pixels, others
        self._seen: Recent[tuple[str, Image.Image]] = Recent(keep)

    def add(self, digest: str, name: str, image: Image.Image) -> None:
        """Remember an image that was asked about, and forget the oldest beyond the pixels that are kept."""
        if digest not in self._examples:
            self._seen.put(digest, (name, image))
        left = self._pixels
        for number, (old, (_, seen)) in enumerate(reversed(self._seen.items())):
            left -= seen.width * seen.height
            if left < 0 and number:
                self._seen.drop(old)

    def get(self, digest: str) -> tuple[str, Image.Image] | None:
        """Name and pixels, or None when it is not known (any more)."""
        found = self._examples.get(digest) or self._seen.get(digest)
        if found is None and self._others is not None and (found := self._others(digest)) is not None:
            self.add(digest, *found)
        return found

    def forget(self, digest: str) -> None:
        """Forget an image that was brought, if it is there."""
        self._seen.drop(digest)

    def known(self) -> set[str]:
        """The hashes of all images that are kept."""
        return {*self._examples, *(digest for digest, _ in self._seen.items())}
