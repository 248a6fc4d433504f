"""The values of a case that do not depend on where cases are kept."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from emma_viz.errors import InputError
from emma_viz.files.schema import Count, Size, require_ranges
from emma_viz.records.benchmarks.record import AskedFor

Said = Literal["yes", "no", "unparsed", ""]
"""How a scorer read an answer; "" where no yes or no was asked for."""
CaseText = Annotated[str, msgspec.Meta(max_length=100_000)]
"""A question, an answer, a note."""
CaseLabel = Annotated[str, msgspec.Meta(max_length=500)]
"""A name of something."""
ImageHash = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?$")]
"""`image_hash` of the upright RGB image; "" for a question about none."""
Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
"""From 0 to 1."""
LARGEST_INTEGER = 2**31 - 1
"""The largest integer that every database keeps in a column of integers."""
CaseLayer = Annotated[int, msgspec.Meta(ge=-1, le=LARGEST_INTEGER)]
"""Zero-based; -1 for what enters block 0, or for what belongs to no layer."""
Pixel = Count
"""A place in the original image."""
LARGEST_DRAWN = 1e30
"""The largest number, in size, of a document of evidence: of far larger ones no axis can be made."""


@dataclass(frozen=True, kw_only=True)
class CaseAnswer:
    """What one model answered, and how it was read.

    Raises:
        InputError: a field is out of its range, or of the two probabilities one lacks.
    """

    model: CaseLabel
    """Name of the model."""
    fingerprint: CaseLabel = ""
    """Of its weights; "" where it is not known, as in logs of other programs."""
    beside: CaseLabel = ""
    """Tells its image encoder and tokenizer from those of another model of the same weights; "" where it is not
    known."""
    text: CaseText
    """The whole answer."""
    said: Said = ""
    """How it was read."""
    right: bool | None = None
    """Whether the scorer counts it as right; None where it was not scored."""
    scorer: CaseLabel = ""
    """By which it was read."""
    p_yes: Probability | None = None
    """P("Yes") as the first token, over the vocabulary; None where it was not kept."""
    p_no: Probability | None = None
    """The same of "No"."""
    made_up: tuple[CaseLabel, ...] = ()
    """Of a description: objects that it names and that are not there."""
    missed: tuple[CaseLabel, ...] = ()
    """Of a description: objects that are there and that it does not name."""
    study: CaseText = ""
    """The study that holds its hidden states, as a path; "" where there is none."""
    entry: CaseLabel = ""
    """The name of the entry there."""
    sample: Annotated[int, msgspec.Meta(ge=0, le=LARGEST_INTEGER)] = 0
    """The question's number in the entry."""

    def __post_init__(self):
        _require_text(self)
        if (self.p_yes is None) != (self.p_no is None):
            raise InputError(
                f"the answer of {self.model!r:.100}: expected two probabilities or none, got "
                f"{self.p_yes!r:.40} and {self.p_no!r:.40}."
            )

    @property
    def leaning(self) -> float | None:
        """P(Yes) / (P(Yes) + P(No)); None where they were not kept, or are both 0."""
        if self.p_yes is None or self.p_no is None or self.p_yes + self.p_no == 0:
            return None
        return self.p_yes / (self.p_yes + self.p_no)

    @property
    def confidence(self) -> float | None:
        """The share, of P(Yes) + P(No), of what it was read as; None where there is none."""
        if self.leaning is None or self.said not in ("yes", "no"):
            return None
        return self.leaning if self.said == "yes" else 1 - self.leaning

    @property
    def log_odds(self) -> float | None:
        """log P(Yes) − log P(No), nats; None where they were not kept, or one is 0."""
        if not self.p_yes or not self.p_no:
            return None
        return math.log(self.p_yes) - math.log(self.p_no)


PRESENCE = "presence"
"""The presence probe of the object that is asked about; its control is the 5 % false-positive threshold."""
KNOCK_OUT = "knock-out change"
"""How far log P(yes) − log P(no) moves, in size, without the object's region; its control is the largest by random
regions."""
KNOCKED_OUT = "knock-out difference"
"""log P(yes) − log P(no) without the object's region."""


@dataclass(frozen=True, kw_only=True)
class MeasuredEvidence:
    """One number of evidence, and what it is compared with."""

    name: CaseLabel
    """What was measured, such as `PRESENCE`."""
    model: CaseLabel
    """Name of the model."""
    layer: CaseLayer
    """Where it was measured."""
    value: float
    """What was measured."""
    control: float | None = None
    """What it must exceed to say anything; None where there is no control."""

    def __post_init__(self):
        _require_text(self)
        if not math.isfinite(self.value) or not (self.control is None or math.isfinite(self.control)):
            raise InputError(
                f"{self.name!r:.80} of {self.model!r:.80}: expected finite numbers, got {self.value} and "
                f"{self.control}."
            )


@dataclass(frozen=True, kw_only=True)
class CaseRecord:
    """One question about one image, what is true, what models answered, and what was measured of them.

    Raises:
        InputError: a field is out of its range, or two answers are of one model.
    """

    image: ImageHash = ""
    """Hash of the image."""
    image_name: CaseLabel = ""
    """The name of its file."""
    prompt: CaseText
    """The question as it was asked."""
    asked: AskedFor = "yes-no"
    """What kind of answer it wants."""
    truth: CaseText = ""
    """The right answer; "" where a description is asked for."""
    object: CaseLabel = ""
    """What is asked about; "" where the question has no such thing."""
    present: tuple[CaseLabel, ...] = ()
    """Objects that are there, for a description."""
    absent: tuple[CaseLabel, ...] = ()
    """Objects that are often made up and are not there, for a description."""
    box: tuple[Pixel, Pixel, Size, Size] | None = None
    """Where the object is: left, top, right, bottom, in pixels of the original image; None where it is not known."""
    benchmark: CaseLabel = ""
    """Name of the benchmark; "" for a question of none."""
    split: CaseLabel = ""
    """The part of it."""
    row: CaseLabel = ""
    """The record's id in its split."""
    category: CaseLabel = ""
    """A finer part."""
    cluster: CaseLabel = ""
    """Cases of one cluster are not independent: intervals draw clusters. "": the image is it, by its name."""
    flags: tuple[CaseLabel, ...] = ()
    """What is known to be odd about the record, such as a disputed label."""
    groups: tuple[tuple[CaseLabel, CaseLabel], ...] = ()
    """(kind, name): sets of records of which all must be right, such as a figure's questions."""
    answers: tuple[CaseAnswer, ...] = ()
    """One for each model."""
    evidence: tuple[MeasuredEvidence, ...] = ()
    """What was measured so far."""

    def __post_init__(self):
        _require_text(self)
        names = [answer.model for answer in self.answers]
        if len(set(names)) < len(names):
            raise InputError(f"expected one answer of each model, got answers of {', '.join(names):.200}.")
        measured = [(each.name, each.model, each.layer) for each in self.evidence]
        if len(set(measured)) < len(measured):
            raise InputError("expected one number of each measure, model and layer, got several of one.")
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise InputError(f"expected a box as left, top, right, bottom, got {self.box}.")

    @property
    def identity(self) -> str:
        """What a case is known by wherever it goes: it depends on the question alone, not on who answered."""
        parts = [self.image, self.prompt, self.benchmark, self.split, self.row]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    def answer_of(self, model: str) -> CaseAnswer | None:
        """The answer of a model; None where it gave none."""
        return next((answer for answer in self.answers if answer.model == model), None)

    def deepest(self, name: str, model: str) -> MeasuredEvidence | None:
        """The evidence of a name and model at its deepest layer; None where there is none."""
        found = [each for each in self.evidence if (each.name, each.model) == (name, model)]
        return max(found, key=lambda each: each.layer, default=None)


def _require_text(value: CaseAnswer | MeasuredEvidence | CaseRecord) -> None:
    """Ranges, and no sign that a database cannot keep."""
    require_ranges(value, error=InputError)
    for name, held in vars(value).items():
        for text in held if isinstance(held, tuple) else (held,):
            if isinstance(text, str):
                storable(text, what=f"{name!r} of a case")


def storable(text: str, *, what: str) -> str:
    """A text that every database can keep.

    Args:
        text: anything.
        what: its name, for messages.

    Raises:
        InputError: it holds the character zero, or unpaired surrogates.
    """
    if "\0" in text:
        raise InputError(f"{what} holds the character zero, which databases do not keep; leave it out.")
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        raise InputError(f"{what} holds unpaired surrogates, which are no text.")
    return text


def require_drawable(document: Any, *, where: str) -> None:
    """Refuse a document of evidence, of whatever form, that pages and reports could not show.

    Args:
        document: JSON's own types.
        where: what holds it, for messages.

    Raises:
        InputError: a text is not `storable`, or a number not within ±`LARGEST_DRAWN`.
    """
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            storable(value, what=f"{where}: a text of it")
        elif isinstance(value, Mapping):
            waiting += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, int | float) and not abs(value) <= LARGEST_DRAWN:
            raise InputError(f"{where}: expected numbers within ±{LARGEST_DRAWN:g}, got {value!r:.40}.")
