"""Which cases are looked at, and in which order."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from sqlalchemy import ColumnElement, Select, and_, case, exists, func, or_, select

from emma_viz.cases.case import Label, Said, storable
from emma_viz.cases.history import VERDICTS
from emma_viz.cases.tables import ANSWERS, CASES, EVENTS, MEASURED, REASONS, TAGS
from emma_viz.errors import InputError
from emma_viz.files.schema import require_ranges

SORTS = {
    "number": "the order in which they were added",
    "newest": "the last that was written first",
    "surest-mistake": "the wrong answer with the highest confidence first",
    "gap": "where the models' confidence in yes differs most first",
    "question": "by their question",
    "image": "by their image",
}
"""Sort → what it means."""
UNJUDGED = "none"
"""As a verdict of a filter: nobody has judged."""


@dataclass(frozen=True, kw_only=True)
class AnswerFilter:
    """What one model, or any, must have answered."""

    model: Label = ""
    """Its name; "" for any model."""
    said: Said | None = None
    """How it was read; None for anything."""
    right: bool | None = None
    """Whether it is right; None for either."""
    least_confidence: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """The least `CaseAnswer.confidence`; above 0, answers without probabilities are left out."""


@dataclass(frozen=True, kw_only=True)
class EvidenceFilter:
    """What must have been measured."""

    name: Label
    """Of the measure."""
    model: Label = ""
    """Name of the model; "" for any."""
    layer: int | None = None
    """None for any layer."""
    at_least: float | None = None
    """None for no bound."""
    at_most: float | None = None
    """None for no bound."""
    beats_control: bool | None = None
    """Whether it is above its control; None for either; numbers without a control are neither."""


@dataclass(frozen=True, kw_only=True)
class CaseFilter:
    """Which cases are looked at; fields that are not given let all pass.

    Raises:
        InputError: a field is out of its range.
    """

    text: Annotated[str, msgspec.Meta(max_length=500)] = ""
    """Words that stand together in the question, an answer, the object, the image's name, or a note."""
    benchmark: Label = ""
    split: Label = ""
    category: Label = ""
    object: Label = ""
    truth: Label = ""
    image: Label = ""
    """Its hash."""
    rule: Label = ""
    """A rule of the miner that holds."""
    mined: bool = False
    """Only what some rule of the miner found."""
    verdict: str = ""
    """One of `VERDICTS`, or `UNJUDGED`."""
    tags: tuple[Label, ...] = ()
    """All of them."""
    answers: tuple[AnswerFilter, ...] = ()
    """All of them."""
    evidence: tuple[EvidenceFilter, ...] = ()
    """All of them."""
    sort: Literal["number", "newest", "surest-mistake", "gap", "question", "image"] = "number"
    """One of `SORTS`."""

    def __post_init__(self):
        require_ranges(self, error=InputError)
        for value in (self.text, self.benchmark, self.split, self.category, self.object, *self.tags):
            storable(value, what="a filter")
        if self.verdict not in ("", UNJUDGED, *VERDICTS):
            raise InputError(
                f"expected one of the verdicts {', '.join((*VERDICTS, UNJUDGED))}, got {self.verdict!r:.80}."
            )


def chosen(wanted: CaseFilter, *columns: Any) -> Select:
    """The statement that selects columns of the cases that pass, without an order."""
    return select(*columns).select_from(CASES).where(*_conditions(wanted))


def ordered(statement: Select, wanted: CaseFilter) -> Select:
    """The same in the filter's order; what is equal in it, in the order in which it was added."""
    return statement.order_by(*_order(wanted.sort), CASES.c.number, CASES.c.id)


def _conditions(wanted: CaseFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    for name in ("benchmark", "split", "category", "object", "truth", "image"):
        if value := getattr(wanted, name):
            found.append(CASES.c[name] == value)
    if wanted.verdict:
        found.append(CASES.c.verdict == ("" if wanted.verdict == UNJUDGED else wanted.verdict))
    if wanted.rule:
        found.append(_has(REASONS, REASONS.c.rule == wanted.rule))
    if wanted.mined:
        found.append(_has(REASONS))
    found += [_has(TAGS, TAGS.c.tag == tag) for tag in wanted.tags]
    found += [_has(ANSWERS, *_answered(each)) for each in wanted.answers]
    found += [_has(MEASURED, *_measured(each)) for each in wanted.evidence]
    if wanted.text:
        found.append(_says(wanted.text))
    return found


def _has(table: Any, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(and_(table.c.case_id == CASES.c.id, *conditions)).correlate(CASES)


def _answered(wanted: AnswerFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [ANSWERS.c.model == wanted.model] if wanted.model else []
    if wanted.said is not None:
        found.append(ANSWERS.c.said == wanted.said)
    if wanted.right is not None:
        found.append(ANSWERS.c.right.is_(wanted.right))
    if wanted.least_confidence > 0:
        found.append(ANSWERS.c.confidence >= wanted.least_confidence)
    return found


def _measured(wanted: EvidenceFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [MEASURED.c.name == wanted.name]
    if wanted.model:
        found.append(MEASURED.c.model == wanted.model)
    if wanted.layer is not None:
        found.append(MEASURED.c.layer == wanted.layer)
    if wanted.at_least is not None:
        found.append(MEASURED.c.value >= wanted.at_least)
    if wanted.at_most is not None:
        found.append(MEASURED.c.value <= wanted.at_most)
    if wanted.beats_control is not None:
        beats = MEASURED.c.value > MEASURED.c.control
        found.append(beats if wanted.beats_control else MEASURED.c.value <= MEASURED.c.control)
    return found


def _says(text: str) -> ColumnElement[bool]:
    def within(column: Any) -> ColumnElement[bool]:
        return column.icontains(text, autoescape=True)

    return or_(
        *(within(CASES.c[name]) for name in ("prompt", "object", "image_name")),
        _has(ANSWERS, within(ANSWERS.c.text)),
        _has(EVENTS, EVENTS.c.kind == "note", within(EVENTS.c.value)),
    )


def _order(sort: str) -> tuple[ColumnElement, ...]:
    """By numbers that lack, last; databases do not agree on where they put them."""
    if sort == "newest":
        return (CASES.c.changed_at.desc(),)
    if sort in ("question", "image"):
        return (CASES.c.prompt,) if sort == "question" else (CASES.c.image_name, CASES.c.image)
    if sort == "number":
        return ()
    of_case = ANSWERS.c.case_id == CASES.c.id
    if sort == "surest-mistake":
        number = select(func.max(ANSWERS.c.confidence)).where(of_case, ANSWERS.c.right.is_(False))
    else:
        leaning = case((ANSWERS.c.said == "yes", ANSWERS.c.confidence), else_=1 - ANSWERS.c.confidence)
        number = select(func.max(leaning) - func.min(leaning)).where(of_case)
    value = number.correlate(CASES).scalar_subquery()
    return (func.coalesce(value, -1.0).desc(),)
