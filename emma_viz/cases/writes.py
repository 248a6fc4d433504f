"""What is written in one transaction."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from sqlalchemy import Connection, delete, insert, select, update

from emma_viz.cases import stored
from emma_viz.cases.case import CaseAnswer, CaseRecord
from emma_viz.cases.history import CaseEvent, Review, review
from emma_viz.cases.stored import StoredCase
from emma_viz.cases.tables import ANSWER_ROWS, CASE_ROWS, EVENT_ROWS, TAG_ROWS
from emma_viz.errors import CaseConflictError, InputError

ITSELF = "emma_viz"
"""The author of what the program writes into a history."""


def write_events(connection: Connection, id: str, events: Sequence[CaseEvent], version: int) -> Review:
    """Append to a history whose case is locked, and write down what it says now.

    Args:
        connection: within a transaction that writes.
        id: of the case.
        events: those that are added.
        version: the case's, before.

    Raises:
        CaseConflictError: somebody else changed the case meanwhile.
    """
    connection.execute(insert(EVENT_ROWS), [{"case_id": id, **asdict(event)} for event in events])
    history = stored.events_of(connection, [id])[id]
    now = review(history)
    changed = (
        update(CASE_ROWS)
        .where(CASE_ROWS.c.id == id, CASE_ROWS.c.version == version)
        .values(version=version + len(events), verdict=now.verdict, changed_at=history[-1].at)
    )
    if connection.execute(changed).rowcount != 1:
        raise CaseConflictError(conflict(history, since=1))
    connection.execute(delete(TAG_ROWS).where(TAG_ROWS.c.case_id == id))
    if now.tags:
        connection.execute(insert(TAG_ROWS), [{"case_id": id, "tag": tag} for tag in now.tags])
    return now


def add_records(
    connection: Connection,
    new: Mapping[str, CaseRecord],
    number: int,
    total: Counter[str],
    *,
    replacing: bool = True,
) -> int:
    """Add some questions, or what those that are there already lack: also the `beside` of an answer.

    Args:
        connection: within a transaction that writes.
        new: id → question, at most `stored.IDS_AT_ONCE`.
        number: of the next question in the casebook's order.
        total: counts of cases, answers and replaced answers, which are added to.
        replacing: let an answer take the place of another one by the same model.

    Returns:
        how many questions were not there before.
    """
    before = {case.id: case for case in stored.load_cases(connection, list(new))}
    event = CaseEvent(kind="answer", value="", author=ITSELF)
    fresh = [record for id, record in new.items() if id not in before]
    if fresh:
        rows = [stored.case_row(record, number + index, event.at) for index, record in enumerate(fresh)]
        connection.execute(insert(CASE_ROWS), rows)
    answers, numbers = [], {}
    for id, record in new.items():
        known = before[id].record if id in before else None
        for answer in record.answers:
            old = known.answer_of(answer.model) if known is not None else None
            if old is not None and _same(old, answer):
                if answer.beside and not old.beside:
                    _name_beside(connection, id, answer)
                continue
            if old is not None and not replacing:
                continue
            if old is not None:
                _drop_answer(connection, before[id], answer.model, old.text)
                total["replaced"] += 1
            answers.append(stored.answer_row(id, answer))
        # A model's numbers belong together: of two measurements nobody could say which one a number is of.
        there = known.evidence if known is not None else ()
        measured = {each.model for each in there}
        if lacking := [each for each in record.evidence if each.model not in measured]:
            numbers[id] = (*there, *lacking)
    stored.replace_measured(connection, numbers)
    if answers:
        connection.execute(insert(ANSWER_ROWS), answers)
    stored.mine_again(connection, list(new))
    total["cases"] += len(fresh)
    total["answers"] += len(answers)
    return len(fresh)


def _same(old: CaseAnswer, new: CaseAnswer) -> bool:
    """Whether two answers are one, if that which does not know its `beside` had the other's."""
    return replace(old, beside=old.beside or new.beside) == replace(new, beside=new.beside or old.beside)


def _name_beside(connection: Connection, id: str, answer: CaseAnswer) -> None:
    """Keep of an answer that is there what is known now to have been beside its weights; no history tells of it."""
    this = (ANSWER_ROWS.c.case_id == id) & (ANSWER_ROWS.c.model == answer.model)
    connection.execute(update(ANSWER_ROWS).where(this).values(beside=answer.beside))


def _drop_answer(connection: Connection, case: StoredCase, model: str, text: str) -> None:
    connection.execute(
        delete(ANSWER_ROWS).where(ANSWER_ROWS.c.case_id == case.id, ANSWER_ROWS.c.model == model)
    )
    at = connection.execute(
        select(CASE_ROWS.c.version).where(CASE_ROWS.c.id == case.id).with_for_update()
    ).scalar_one()
    event = CaseEvent(kind="answer", value=f"{model}: {text}"[:100_000], author=ITSELF)
    history = stored.events_of(connection, [case.id])[case.id]
    write_events(connection, case.id, [event.after(history[-1].at) if history else event], at)


def require_standing(events: Sequence[CaseEvent], id: str) -> None:
    """Refuse to undo what is not there, is undone, or is no act of a person's.

    Raises:
        InputError: so it is.
    """
    found = next((event for event in events if event.id == id), None)
    if found is None or found.kind == "answer":
        raise InputError(f"expected the id of something that was written into this case, got {id[:40]!r}.")
    if id in review(events).undone:
        raise InputError("it is undone already.")


def conflict(events: Sequence[CaseEvent], since: int) -> str:
    """Who wrote what in the meantime."""
    newer = [f"{event.author} wrote {event.kind} {event.value[:60]!r}" for event in events[-max(since, 1) :]]
    return f"The case was changed in the meantime ({'; '.join(newer)}); look at it, and write again."
