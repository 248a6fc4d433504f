"""Which cases are looked at, and in which order."""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from sqlalchemy import ColumnElement, Select, case, exists, func, or_, select

from emma_viz.cases.case import CaseLabel, CaseLayer, Said, storable
from emma_viz.cases.history import CASE_VERDICTS
from emma_viz.cases.tables import ANSWER_ROWS, CASE_ROWS, EVENT_ROWS, EVIDENCE_NUMBERS, REASON_ROWS, TAG_ROWS
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

    model: CaseLabel = ""
    """Its name; "" for any model."""
    said: Said | None = None
    """How it was read; None for anything."""
    right: bool | None = None
    """Whether it is right; None for either."""
    least_confidence: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """The least `CaseAnswer.confidence`; above 0, answers without probabilities are left out."""


@dataclass(frozen=True, kw_only=True)
class EvidenceFilter:
    """What must have been measured.

    Raises:
        InputError: a field is out of its range.
    """

    name: CaseLabel
    """Of the measure."""
    model: CaseLabel = ""
    """Name of the model; "" for any."""
    layer: CaseLayer | None = None
    """None for any layer."""
    at_least: float | None = None
    """None for no bound."""
    at_most: float | None = None
    """None for no bound."""
    beats_control: bool | None = None
    """Whether it is above its control; None for either; numbers without a control are neither."""

    def __post_init__(self):
        require_ranges(self, error=InputError)


@dataclass(frozen=True, kw_only=True)
class CaseFilter:
    """Which cases are looked at; fields that are not given let all pass.

    Raises:
        InputError: a field is out of its range.
    """

    text: Annotated[str, msgspec.Meta(max_length=500)] = ""
    """Words that stand together in the question, an answer, the object, the image's name, or a note."""
    benchmark: CaseLabel = ""
    split: CaseLabel = ""
    category: CaseLabel = ""
    object: CaseLabel = ""
    truth: CaseLabel = ""
    image: CaseLabel = ""
    """Its hash."""
    rule: CaseLabel = ""
    """A rule of the miner that holds."""
    mined: bool = False
    """Only what some rule of the miner found."""
    verdict: str = ""
    """One of `CASE_VERDICTS`, or `UNJUDGED`."""
    tags: tuple[CaseLabel, ...] = ()
    """All of them."""
    answers: tuple[AnswerFilter, ...] = ()
    """All of them."""
    evidence: tuple[EvidenceFilter, ...] = ()
    """All of them."""
    sort: str = "number"
    """One of `SORTS`."""

    def __post_init__(self):
        require_ranges(self, error=InputError)
        for value in (self.text, self.benchmark, self.split, self.category, self.object, *self.tags):
            storable(value, what="a filter")
        if self.sort not in SORTS:
            raise InputError(f"expected one of the orders {', '.join(SORTS)}, got {self.sort!r:.80}.")
        if self.verdict not in ("", UNJUDGED, *CASE_VERDICTS):
            raise InputError(
                f"expected one of the verdicts {', '.join((*CASE_VERDICTS, UNJUDGED))}, got {self.verdict!r:.80}."
            )


def select_cases(wanted: CaseFilter, *columns: Any) -> Select:
    """The statement that selects columns of the cases that pass, without an order."""
    return select(*columns).select_from(CASE_ROWS).where(*_conditions(wanted))


def in_sort(statement: Select, wanted: CaseFilter) -> Select:
    """The same in the filter's order; what is equal in it, in the order in which it was added."""
    return statement.order_by(*_order(wanted.sort), CASE_ROWS.c.number, CASE_ROWS.c.id)


def _conditions(wanted: CaseFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    for name in ("benchmark", "split", "category", "object", "truth", "image"):
        if value := getattr(wanted, name):
            found.append(CASE_ROWS.c[name] == value)
    if wanted.verdict:
        found.append(CASE_ROWS.c.verdict == ("" if wanted.verdict == UNJUDGED else wanted.verdict))
    if wanted.rule:
        found.append(_has(REASON_ROWS, REASON_ROWS.c.rule == wanted.rule))
    if wanted.mined:  # most are: asked of each case, the first reason ends the search
        found.append(exists().where(REASON_ROWS.c.case_id == CASE_ROWS.c.id).correlate(CASE_ROWS))
    found += [_has(TAG_ROWS, TAG_ROWS.c.tag == tag) for tag in wanted.tags]
    found += [_has(ANSWER_ROWS, *_answered(each)) for each in wanted.answers]
    found += [_has(EVIDENCE_NUMBERS, *_measured(each)) for each in wanted.evidence]
    if wanted.text:
        found.append(_says(wanted.text))
    return found


def _has(table: Any, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether a case is among those of some rows: looked for once, and not once for each case."""
    return CASE_ROWS.c.id.in_(select(table.c.case_id).where(*conditions))


def _answered(wanted: AnswerFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [ANSWER_ROWS.c.model == wanted.model] if wanted.model else []
    if wanted.said is not None:
        found.append(ANSWER_ROWS.c.said == wanted.said)
    if wanted.right is not None:
        found.append(ANSWER_ROWS.c.right.is_(wanted.right))
    if wanted.least_confidence > 0:
        found.append(ANSWER_ROWS.c.confidence >= wanted.least_confidence)
    return found


def _measured(wanted: EvidenceFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [EVIDENCE_NUMBERS.c.name == wanted.name]
    if wanted.model:
        found.append(EVIDENCE_NUMBERS.c.model == wanted.model)
    if wanted.layer is not None:
        found.append(EVIDENCE_NUMBERS.c.layer == wanted.layer)
    if wanted.at_least is not None:
        found.append(EVIDENCE_NUMBERS.c.value >= wanted.at_least)
    if wanted.at_most is not None:
        found.append(EVIDENCE_NUMBERS.c.value <= wanted.at_most)
    if wanted.beats_control is not None:
        beats = EVIDENCE_NUMBERS.c.value > EVIDENCE_NUMBERS.c.control
        found.append(
            beats if wanted.beats_control else EVIDENCE_NUMBERS.c.value <= EVIDENCE_NUMBERS.c.control
        )
    return found


def _says(text: str) -> ColumnElement[bool]:
    def within(column: Any) -> ColumnElement[bool]:
        return column.icontains(text, autoescape=True)

    return or_(
        *(within(CASE_ROWS.c[name]) for name in ("prompt", "object", "image_name")),
        _has(ANSWER_ROWS, within(ANSWER_ROWS.c.text)),
        _has(EVENT_ROWS, EVENT_ROWS.c.kind == "note", within(EVENT_ROWS.c.value)),
    )


def _order(sort: str) -> tuple[ColumnElement, ...]:
    """By numbers that lack, last; databases do not agree on where they put them."""
    if sort == "newest":
        return (CASE_ROWS.c.changed_at.desc(),)
    if sort in ("question", "image"):
        return (CASE_ROWS.c.prompt,) if sort == "question" else (CASE_ROWS.c.image_name, CASE_ROWS.c.image)
    if sort == "number":
        return ()
    of_case = ANSWER_ROWS.c.case_id == CASE_ROWS.c.id
    if sort == "surest-mistake":
        number = select(func.max(ANSWER_ROWS.c.confidence)).where(of_case, ANSWER_ROWS.c.right.is_(False))
    else:
        leaning = case(
            (ANSWER_ROWS.c.said == "yes", ANSWER_ROWS.c.confidence), else_=1 - ANSWER_ROWS.c.confidence
        )
        number = select(func.max(leaning) - func.min(leaning)).where(of_case)
    value = number.correlate(CASE_ROWS).scalar_subquery()
    return (func.coalesce(value, -1.0).desc(),)
