"""Files and servers that are no casebook, a damaged one, one that is busy, or one of another version."""

import os
import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import insert, inspect, select, text

from emma_viz.cases import opening
from emma_viz.cases.case import CaseRecord
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.tables import CASE_ROWS, CASE_TABLES, EVENT_ROWS, VERSION_TABLE
from emma_viz.errors import CasebookError, MissingDependencyError


def filled(path: Path) -> Path:
    with Casebook.open(path) as casebook:
        casebook.add([CaseRecord(prompt=f"Is there a cup {number}?") for number in range(50)])
    return path


def test_the_steps_make_the_tables(address):
    engine = opening.open_database(address)
    with opening.reading(engine) as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, CASE_TABLES) == []
        assert context.get_current_revision() == opening.NEWEST
    engine.dispose()
    steps = ScriptDirectory(str(Path(opening.__file__).parent / "migrations"))
    assert steps.get_heads() == [opening.NEWEST]


def test_a_casebook_of_the_first_tables_keeps_all_that_it_holds(address, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(opening, "NEWEST", "0001")
        before.setattr(command, "upgrade", lambda config, to, own=command.upgrade: own(config, "0001"))
        engine = opening.open_database(address)
    with opening.writing(engine) as connection:
        columns = [each["name"] for each in inspect(connection).get_columns("casebook_cases")]
        assert "cluster" not in columns
        row = dict.fromkeys(columns, "") | {"id": "c", "version": 1, "number": 0, "box": "null"}
        row |= dict.fromkeys(("present", "absent", "flags", "groups"), "[]")
        names, places = ", ".join(f'"{each}"' for each in row), ", ".join(f":{each}" for each in row)
        connection.execute(text(f"INSERT INTO casebook_cases ({names}) VALUES ({places})"), row)
        event = {
            "case_id": "c",
            "id": "e",
            "at": "2026-01-01",
            "author": "Ana",
            "kind": "note",
            "value": "kept",
        }
        connection.execute(insert(EVENT_ROWS), [event])
    engine.dispose()
    engine = opening.open_database(address)
    with opening.reading(engine) as connection:
        assert connection.execute(select(EVENT_ROWS.c.value)).scalars().all() == ["kept"]
        assert connection.execute(select(CASE_ROWS.c.cluster)).scalars().all() == [""]
    engine.dispose()


def test_who_reads_sees_one_state_while_others_write(address):
    engine = opening.open_database(address)
    with Casebook(engine) as casebook, opening.reading(engine) as connection:
        assert connection.execute(select(CASE_ROWS.c.id)).all() == []
        casebook.add([CaseRecord(prompt="Is there a cup?")])
        assert connection.execute(select(CASE_ROWS.c.id)).all() == []
        assert len(casebook.records()) == 1


def test_a_newer_casebook_is_left_alone(address):
    engine = opening.open_database(address)
    with opening.writing(engine) as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(CasebookError, match="newer version of emma_viz"):
        Casebook.open(address)


def test_another_programs_database_is_left_alone(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(CasebookError, match=r"another program's tables .bookmarks"):
        Casebook.open(path)
    assert path.read_bytes() == before


def test_nothing_in_a_file_acts_by_itself(tmp_path):
    path = filled(tmp_path / "cases.db")
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TRIGGER spring AFTER INSERT ON casebook_events BEGIN DELETE FROM casebook_cases; END"
        )
    connection.close()
    with pytest.raises(CasebookError, match=r"triggers or views .spring"):
        Casebook.open(path)


@pytest.mark.parametrize(
    "content", [b"not a database, but longer than a header", b"SQLite format 3\0" + b"x" * 4096]
)
def test_what_is_no_casebook_is_refused(tmp_path, content):
    path = tmp_path / "cases.db"
    path.write_bytes(content)
    with pytest.raises(CasebookError, match=r"cases\.db"):
        Casebook.open(path)
    assert path.read_bytes() == content


def test_a_damaged_file_is_a_sentence(tmp_path):
    path = filled(tmp_path / "cases.db")
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096 * 2)
        file.write(os.urandom(size - 4096 * 2))
    with pytest.raises(CasebookError, match="damaged"), Casebook.open(path) as casebook:
        casebook.records()


def test_rows_that_are_there_already_are_no_damage(address):
    with Casebook.open(address) as casebook:
        casebook.add([CaseRecord(prompt="Is there a cup?")])
    engine = opening.open_database(address)
    with opening.reading(engine) as connection:
        row = dict(connection.execute(select(CASE_ROWS)).mappings().one())
    with (
        pytest.raises(CasebookError, match="nothing was written, because") as raised,
        opening.writing(engine) as connection,
    ):
        connection.execute(insert(CASE_ROWS), [row])
    engine.dispose()
    assert "damaged" not in str(raised.value)


def test_a_file_that_somebody_is_writing_to_for_long_is_a_sentence(tmp_path, monkeypatch):
    path = filled(tmp_path / "cases.db")
    monkeypatch.setattr(opening, "PATIENCE", 0.05)
    other = sqlite3.connect(path)
    other.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(CasebookError, match="another program has been writing"):
            Casebook.open(path)
    finally:
        other.close()


def test_readers_do_not_wait_for_a_writer(tmp_path, monkeypatch):
    path = filled(tmp_path / "cases.db")
    monkeypatch.setattr(opening, "PATIENCE", 0.05)
    with Casebook.open(path) as casebook:
        other = sqlite3.connect(path)
        other.execute("BEGIN IMMEDIATE")
        try:
            assert casebook.count() == 50
            with pytest.raises(CasebookError, match="another program has been writing"):
                casebook.write(casebook.ids()[0], "note", "x", author="Ana")
        finally:
            other.close()
        casebook.write(casebook.ids()[0], "note", "x", author="Ana")


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("nonsense://host/name", "SQLAlchemy knows no database"),
        ("postgresql+psycopg://emma:secret@localhost:1/name", "cannot be reached"),
        ("postgresql+psycopg://emma@localhost:1/name?password=secret", "cannot be reached"),
        ("sqlite://", "path of a file"),
        ("sqlite:///file?mode=ro", "without options"),
        ("sqlite:///file?password=secret", "without options"),
        ("postgresql://[::1", "this is none"),
        ("/no/such/folder/cases.db", "does not exist"),
        ("/", "something else"),
        ("/dev/null", "something else"),
    ],
)
def test_an_address_that_cannot_be_opened_is_a_sentence_without_the_password(where, said):
    with pytest.raises(CasebookError, match=said) as raised:
        Casebook.open(where)
    assert "secret" not in str(raised.value)


def test_a_driver_that_is_missing_is_named():
    with pytest.raises(MissingDependencyError, match="pip install oracledb"):
        Casebook.open("oracle+oracledb://user@host/name")
