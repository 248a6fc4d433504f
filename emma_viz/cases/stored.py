"""Between values and rows of the tables."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select

from emma_viz.cases.case import CaseAnswer, CaseRecord, MeasuredEvidence
from emma_viz.cases.history import CaseEvent, Review, oldest_first, review
from emma_viz.cases.mining import mined
from emma_viz.cases.tables import ANSWER_ROWS, CASE_ROWS, EVENT_ROWS, EVIDENCE_NUMBERS, REASON_ROWS
from emma_viz.errors import CasebookError

IDS_AT_ONCE = 500
"""Rows that are asked for at once; databases bound how many names a statement may hold."""
_OF_RECORD = (
    "image",
    "image_name",
    "prompt",
    "asked",
    "truth",
    "object",
    "benchmark",
    "split",
    "row",
    "category",
    "cluster",
)


@dataclass(frozen=True, kw_only=True)
class StoredCase:
    """One case as a casebook holds it."""

    id: str
    """`CaseRecord.identity`."""
    version: int
    """How often its history was written to."""
    record: CaseRecord
    """The question, with all answers and evidence."""
    reasons: Mapping[str, tuple[str, ...]]
    """Rules of the miner that hold → the models for which they do."""
    history: tuple[CaseEvent, ...]
    """All that was ever written, oldest first."""

    @property
    def review(self) -> Review:
        """What the history says now."""
        return review(self.history)


def in_parts(ids: Sequence[str], *, size: int = IDS_AT_ONCE) -> Iterator[Sequence[str]]:
    """The same ids, so many at a time."""
    for begin in range(0, len(ids), size):
        yield ids[begin : begin + size]


def load_cases(connection: Connection, ids: Sequence[str]) -> list[StoredCase]:
    """The cases of some ids, in their order; those that are not there are left out."""
    found: list[StoredCase] = []
    for part in in_parts(ids):
        records = {record.identity: record for record in _records(connection, part)}
        versions: dict[str, int] = {
            row.id: row.version
            for row in connection.execute(
                select(CASE_ROWS.c.id, CASE_ROWS.c.version).where(CASE_ROWS.c.id.in_(part))
            )
        }
        reasons: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for row in _of(connection, REASON_ROWS, part, REASON_ROWS.c.rule, REASON_ROWS.c.model):
            reasons[row.case_id][row.rule].append(row.model)
        events = events_of(connection, part)
        found += [
            StoredCase(
                id=each,
                version=versions[each],
                record=records[each],
                reasons={rule: tuple(models) for rule, models in reasons[each].items()},
                history=tuple(events[each]),
            )
            for each in part
            if each in records
        ]
    return found


def records(connection: Connection, ids: Sequence[str]) -> Iterable[CaseRecord]:
    """The records alone, in chunks."""
    for part in in_parts(ids):
        by_id = {record.identity: record for record in _records(connection, part)}
        yield from (by_id[each] for each in part if each in by_id)


def events_of(connection: Connection, ids: Sequence[str]) -> Mapping[str, list[CaseEvent]]:
    """The histories of some cases, oldest first."""
    found: defaultdict[str, list[CaseEvent]] = defaultdict(list)
    for row in _of(connection, EVENT_ROWS, ids):
        found[row.case_id].append(
            CaseEvent(id=row.id, at=row.at, author=row.author, kind=row.kind, value=row.value)
        )
    return defaultdict(list, {case: list(oldest_first(events)) for case, events in found.items()})


def case_row(record: CaseRecord, number: int, at: str) -> dict[str, Any]:
    """A row of `CASE_ROWS`.

    Args:
        record: the case.
        number: its place in the order in which cases came.
        at: when it came, as text in ISO 8601.
    """
    return {
        "id": record.identity,
        "version": 0,
        "present": list(record.present),
        "absent": list(record.absent),
        "flags": list(record.flags),
        "groups": [list(group) for group in record.groups],
        "box": None if record.box is None else list(record.box),
        "verdict": "",
        "number": number,
        "changed_at": at,
        **{name: getattr(record, name) for name in _OF_RECORD},
    }


def answer_row(case: str, answer: CaseAnswer) -> dict[str, Any]:
    """A row of `ANSWER_ROWS`."""
    return {"case_id": case, "confidence": answer.confidence, **vars(answer)}


def replace_measured(
    connection: Connection, measured: Mapping[str, Iterable[MeasuredEvidence]], *, model: str | None = None
) -> None:
    """Write numbers of evidence in place of those that there were.

    Args:
        connection: within a transaction that writes.
        measured: id of a case → its numbers; at most `IDS_AT_ONCE`.
        model: whose numbers they are; None for those of all models.
    """
    if not measured:
        return
    gone = delete(EVIDENCE_NUMBERS).where(EVIDENCE_NUMBERS.c.case_id.in_(list(measured)))
    connection.execute(gone if model is None else gone.where(EVIDENCE_NUMBERS.c.model == model))
    rows = [{"case_id": case, **vars(each)} for case, numbers in measured.items() for each in numbers]
    if rows:
        connection.execute(insert(EVIDENCE_NUMBERS), rows)


def mine_again(connection: Connection, ids: Sequence[str]) -> None:
    """Write down which rules of the miner hold for some cases."""
    for part in in_parts(ids):
        connection.execute(delete(REASON_ROWS).where(REASON_ROWS.c.case_id.in_(part)))
        rows = [
            {"case_id": record.identity, "rule": rule, "model": model}
            for record in _records(connection, part)
            for rule, models in mined(record).items()
            for model in models
        ]
        if rows:
            connection.execute(insert(REASON_ROWS), rows)


def _records(connection: Connection, ids: Sequence[str]) -> Iterable[CaseRecord]:
    answers: defaultdict[str, list[CaseAnswer]] = defaultdict(list)
    for row in _of(connection, ANSWER_ROWS, ids):
        fields = {name: getattr(row, name) for name in CaseAnswer.__dataclass_fields__}
        fields |= {name: tuple(fields[name]) for name in ("made_up", "missed")}
        answers[row.case_id].append(CaseAnswer(**fields))
    evidence: defaultdict[str, list[MeasuredEvidence]] = defaultdict(list)
    for row in _of(connection, EVIDENCE_NUMBERS, ids):
        fields = {name: getattr(row, name) for name in MeasuredEvidence.__dataclass_fields__}
        evidence[row.case_id].append(MeasuredEvidence(**fields))
    for row in connection.execute(select(CASE_ROWS).where(CASE_ROWS.c.id.in_(ids))):
        try:
            yield CaseRecord(
                present=tuple(row.present),
                absent=tuple(row.absent),
                flags=tuple(row.flags),
                groups=tuple((kind, name) for kind, name in row.groups),
                box=None if row.box is None else tuple(row.box),
                answers=tuple(answers[row.id]),
                evidence=tuple(evidence[row.id]),
                **{name: getattr(row, name) for name in _OF_RECORD},
            )
        except (TypeError, ValueError) as failure:  # another program wrote it: an InputError is one, too
            raise CasebookError(
                f"case {row.id!r:.40}: it was changed or is damaged ({failure})."
            ) from failure


def _of(connection: Connection, table: Table, ids: Sequence[str], *order: Any) -> Iterable[Any]:
    """The rows of some cases, in an order that does not depend on the database."""
    keys = order or tuple(table.primary_key.columns)
    return connection.execute(select(table).where(table.c.case_id.in_(ids)).order_by(*keys))
