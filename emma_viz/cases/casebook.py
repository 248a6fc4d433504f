"""A casebook: questions, what models answered, why they stand out, and what people judged of them, in a database."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, insert, select

from emma_viz.cases import stored
from emma_viz.cases.case import CaseRecord, MeasuredEvidence
from emma_viz.cases.filters import CaseFilter, in_sort, select_cases
from emma_viz.cases.history import CaseEvent, EventKind
from emma_viz.cases.opening import open_database, reading, shown_url, writing
from emma_viz.cases.pictures import CasePicture
from emma_viz.cases.stored import StoredCase
from emma_viz.cases.tables import (
    ANSWER_ROWS,
    CASE_ROWS,
    EVIDENCE_NUMBERS,
    EVIDENCE_ROWS,
    PICTURE_ROWS,
    REASON_ROWS,
    TAG_ROWS,
)
from emma_viz.cases.writes import add_records, conflict, require_standing, write_events
from emma_viz.errors import CasebookError, CaseConflictError, InputError
from emma_viz.files.json_door import TABLE, parse_json


@dataclass(frozen=True, kw_only=True)
class Added:
    """What became of records that were added."""

    cases: int
    """Questions that were not there before."""
    answers: int
    """Answers that were not there before."""
    replaced: int
    """Answers that took the place of another one by the same model; the history keeps the text of that."""


class Casebook:
    """An open casebook. Several programs, and several threads, may have one open; what they write is never lost.

    Args:
        engine: from `open_database`.
    """

    def __init__(self, engine: Engine):
        self._engine = engine

    @classmethod
    def open(cls, where: str | Path, *, make: bool = True) -> "Casebook":
        """Open an SQLite file, or any database by its URL.

        Args:
            where: its path or URL.
            make: make the file if it is missing.

        Raises:
            CasebookError: see `open_database`.
        """
        return cls(open_database(where, make=make))

    @property
    def where(self) -> str:
        """The path or URL, without a password and options."""
        return shown_url(self._engine.url)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __enter__(self) -> "Casebook":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ── what is in it ──────────────────────────────────────────────────────────────────────────────────────────────

    def count(self, wanted: CaseFilter = CaseFilter()) -> int:
        """How many cases pass a filter."""
        with reading(self._engine) as connection:
            return connection.execute(select_cases(wanted, func.count())).scalar_one()

    def ids(
        self, wanted: CaseFilter = CaseFilter(), *, start: int = 0, count: int | None = None
    ) -> list[str]:
        """The ids of the cases that pass, in the filter's order.

        Args:
            wanted: which cases, and in what order.
            start: so many of them are passed over.
            count: at most so many; all when None.
        """
        statement = in_sort(select_cases(wanted, CASE_ROWS.c.id), wanted).offset(start).limit(count)
        with reading(self._engine) as connection:
            return list(connection.execute(statement).scalars())

    def page(self, wanted: CaseFilter, *, start: int, count: int) -> tuple[list[str], int]:
        """A part of the ids that pass, as `ids` gives them, and how many pass in all: both from one look.

        Args:
            wanted: the filter, with its order.
            start: ids that are passed over.
            count: ids at most.
        """
        passing = select_cases(wanted, CASE_ROWS.c.id, func.count().over())
        with reading(self._engine) as connection:
            rows = connection.execute(in_sort(passing, wanted).offset(start).limit(count)).all()
        return [id for id, _ in rows], rows[0][1] if rows else self.count(wanted)

    def cases(self, ids: Sequence[str]) -> list[StoredCase]:
        """Some cases, in the order of their ids; those that are not there are left out."""
        with reading(self._engine) as connection:
            return stored.load_cases(connection, ids)

    def case(self, id: str) -> StoredCase:
        """One case.

        Raises:
            CasebookError: there is none of that id.
        """
        found = self.cases([id])
        if not found:
            raise CasebookError(f"{self.where}: there is no case {id[:40]!r}.")
        return found[0]

    def records(self, wanted: CaseFilter = CaseFilter()) -> list[CaseRecord]:
        """The questions and answers that pass, for tables over many; without history."""
        statement = in_sort(select_cases(wanted, CASE_ROWS.c.id), wanted)
        with reading(self._engine) as connection:
            return list(stored.records(connection, list(connection.execute(statement).scalars())))

    def state(self) -> str:
        """A text that is another one after every case, answer, entry of a history or evidence that was added."""
        sums = select(func.count(), func.coalesce(func.sum(CASE_ROWS.c.version), 0)).select_from(CASE_ROWS)
        with reading(self._engine) as connection:
            cases, versions = connection.execute(sums).one()
            answers, evidence = (
                connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in (ANSWER_ROWS, EVIDENCE_ROWS)
            )
        return f"{self.where} {cases} {versions} {answers} {evidence}"

    def facets(self) -> dict[str, Counter[str]]:
        """What there is to filter by: name → value → cases.

        Names: benchmark, split, category, object, truth, verdict; tag, rule, model, measure.
        """
        names = ("benchmark", "split", "category", "object", "truth", "verdict")
        columns = {"tag": TAG_ROWS.c.tag, "rule": REASON_ROWS.c.rule, "model": ANSWER_ROWS.c.model}
        columns["measure"] = EVIDENCE_NUMBERS.c.name
        found: dict[str, Counter[str]] = {}
        with reading(self._engine) as connection:
            for name in names:
                column = CASE_ROWS.c[name]
                counts = select(column, func.count()).where(column != "").group_by(column)
                found[name] = Counter(dict(connection.execute(counts).all()))
            for name, column in columns.items():
                counts = select(column, func.count(column.table.c.case_id.distinct())).group_by(column)
                found[name] = Counter(dict(connection.execute(counts).all()))
        return found

    # ── pictures and evidence ──────────────────────────────────────────────────────────────────────────────────────

    def keep_picture(self, picture: CasePicture) -> None:
        """Keep an image; one that is there already stays as it is."""
        with writing(self._engine) as connection:
            known = select(PICTURE_ROWS.c.hash).where(PICTURE_ROWS.c.hash == picture.hash)
            if connection.execute(known).first() is None:
                connection.execute(insert(PICTURE_ROWS), [asdict(picture)])

    def has_picture(self, image: str) -> bool:
        """Whether an image of this hash is kept."""
        with reading(self._engine) as connection:
            known = select(PICTURE_ROWS.c.hash).where(PICTURE_ROWS.c.hash == image)
            return connection.execute(known).first() is not None

    def picture(self, image: str) -> CasePicture | None:
        """A kept image by its hash; None where there is none."""
        with reading(self._engine) as connection:
            row = (
                connection.execute(select(PICTURE_ROWS).where(PICTURE_ROWS.c.hash == image))
                .mappings()
                .first()
            )
        return None if row is None else CasePicture(**row)

    def picture_name(self, image: str) -> str:
        """What the file of an image was called in the first case about it; "" where there is none."""
        named = select(CASE_ROWS.c.image_name).where(CASE_ROWS.c.image == image, CASE_ROWS.c.image_name != "")
        with reading(self._engine) as connection:
            return connection.execute(named.order_by(CASE_ROWS.c.number).limit(1)).scalar() or ""

    def thumbnails(self, images: Sequence[str]) -> dict[str, bytes]:
        """Small pictures (WebP) of those images that are kept."""
        with reading(self._engine) as connection:
            rows = connection.execute(
                select(PICTURE_ROWS.c.hash, PICTURE_ROWS.c.thumbnail).where(PICTURE_ROWS.c.hash.in_(images))
            )
            return dict(rows.all())

    def keep_evidence(
        self,
        id: str,
        model: str,
        *,
        recipe: str,
        document: Mapping[str, Any],
        measured: Iterable[MeasuredEvidence],
    ) -> None:
        """Keep what was measured of one model at one case, in place of what was kept before.

        Args:
            id: of the case.
            model: its name.
            recipe: a digest of all that the numbers depend on.
            document: the evidence as JSON's own types.
            measured: the numbers to filter by.

        Raises:
            InputError: a number is of another model.
            CasebookError: there is no such case.
        """
        numbers = list(measured)
        if any(each.model != model for each in numbers):
            raise InputError(f"expected numbers of {model!r:.100} alone.")
        content = json.dumps(document, allow_nan=False)
        with writing(self._engine) as connection:
            self._locked(connection, id)
            connection.execute(
                delete(EVIDENCE_ROWS).where(EVIDENCE_ROWS.c.case_id == id, EVIDENCE_ROWS.c.model == model)
            )
            row = {"case_id": id, "model": model, "recipe": recipe, "document": content}
            connection.execute(insert(EVIDENCE_ROWS), [row])
            stored.replace_measured(connection, {id: numbers}, model=model)
            stored.mine_again(connection, [id])

    def evidence(self, id: str) -> dict[str, tuple[str, Any]]:
        """What was kept of a case: model → (recipe, document)."""
        with reading(self._engine) as connection:
            return self._evidence(connection, id)

    def with_evidence(self, ids: Sequence[str]) -> list[tuple[StoredCase, dict[str, tuple[str, Any]]]]:
        """Some cases as `cases` gives them, each with what `evidence` gives of it: all from one look, so that no
        document is without its numbers."""
        with reading(self._engine) as connection:
            return [
                (case, self._evidence(connection, case.id)) for case in stored.load_cases(connection, ids)
            ]

    def _evidence(self, connection: Connection, id: str) -> dict[str, tuple[str, Any]]:
        rows = connection.execute(select(EVIDENCE_ROWS).where(EVIDENCE_ROWS.c.case_id == id)).all()
        where = f"{self.where}, evidence of {id[:12]}"
        return {
            row.model: (
                row.recipe,
                parse_json(row.document, where=where, error=CasebookError, budget=TABLE),
            )
            for row in rows
        }

    # ── writing ────────────────────────────────────────────────────────────────────────────────────────────────────

    def add(self, records: Sequence[CaseRecord], *, replace: bool = True) -> Added:
        """Add questions with their answers; all of them or none.

        A question that is there already gets the answers that it lacks, and evidence of models that have none there.

        Args:
            records: the questions.
            replace: let an answer take the place of another one by the same model, as that of a newer run does.

        Raises:
            InputError: an answer is of a model whose name stands for other weights here, or for the same with another
                image encoder or tokenizer.
        """
        total = Counter[str]()
        with writing(self._engine) as connection:
            self._require_same_weights(connection, records)
            number = (
                connection.execute(select(func.coalesce(func.max(CASE_ROWS.c.number), -1))).scalar_one() + 1
            )
            by_id = {record.identity: record for record in records}
            for part in stored.in_parts(list(by_id)):
                new = {id: by_id[id] for id in part}
                number += add_records(connection, new, number, total, replacing=replace)
        return Added(cases=total["cases"], answers=total["answers"], replaced=total["replaced"])

    def write(
        self, id: str, kind: EventKind, value: str, *, author: str, version: int | None = None
    ) -> StoredCase:
        """Write one thing into a case's history.

        Args:
            id: of the case.
            kind: see `CaseEvent`; to undo is to write "undo" and the id of an event.
            value: what is written.
            author: who writes.
            version: that of the case as the author saw it; None to write whatever happened in the meantime, which
                suits notes and tags.

        Returns:
            the case as it is then.

        Raises:
            CaseConflictError: it is not at that version any more.
            InputError: the value is none of its kind, or there is nothing to undo.
            CasebookError: there is no such case.
        """
        event = CaseEvent(kind=kind, value=value, author=author)
        with writing(self._engine) as connection:
            at = self._locked(connection, id)
            events = list(stored.events_of(connection, [id])[id])
            if version is not None and version != at:
                raise CaseConflictError(conflict(events, since=at - version))
            if kind == "undo":
                require_standing(events, value)
            if events:
                event = event.after(events[-1].at)
            write_events(connection, id, [event], at)
            return stored.load_cases(connection, [id])[0]

    def join_history(self, id: str, events: Sequence[CaseEvent]) -> int:
        """Add what a history lacks, as one that comes from another casebook; returns how many entries were added.

        Raises:
            CasebookError: there is no such case.
        """
        if not events:
            return 0
        with writing(self._engine) as connection:
            at = self._locked(connection, id)
            known = {event.id for event in stored.events_of(connection, [id])[id]}
            new = {event.id: event for event in events if event.id not in known}
            if new:
                write_events(connection, id, list(new.values()), at)
            return len(new)

    def _locked(self, connection: Connection, id: str) -> int:
        """The version of a case, which nobody else changes until the end of this transaction."""
        statement = select(CASE_ROWS.c.version).where(CASE_ROWS.c.id == id).with_for_update()
        found = connection.execute(statement).scalar()
        if found is None:
            raise CasebookError(f"{self.where}: there is no case {id[:40]!r}.")
        return found

    @staticmethod
    def _require_same_weights(connection: Connection, records: Sequence[CaseRecord]) -> None:
        weights, besides = dict[str, str](), dict[str, str]()
        columns = (ANSWER_ROWS.c.model, ANSWER_ROWS.c.fingerprint, ANSWER_ROWS.c.beside)
        rows = connection.execute(select(*columns).distinct())
        came = ((each.model, each.fingerprint, each.beside) for record in records for each in record.answers)
        for model, fingerprint, beside in (*rows, *came):
            for what, known, mark in (
                ("weights", weights, fingerprint),
                ("image encoder and tokenizer", besides, beside),
            ):
                if mark and known.setdefault(model, mark) != mark:
                    raise InputError(
                        f"expected {model!r:.100} to be one model, got answers of two: {what} {known[model]:.16} and "
                        f"{mark:.16}. Give the newer one a name of its own, or open another casebook."
                    )
