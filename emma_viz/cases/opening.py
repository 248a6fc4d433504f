"""Databases of cases: an SQLite file, or any other by its URL; brought to the newest version of the tables first."""

import json
import os
import re
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Lock

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)

from emma_viz.cases.tables import CASE_ROWS, VERSION_TABLE
from emma_viz.errors import CasebookError, MissingDependencyError
from emma_viz.files.named import named_path
from emma_viz.files.room import require_writable

NEWEST = "0003"
"""The step of the migrations that this version writes and reads."""
PATIENCE = 10.0
"""Seconds that are waited for somebody else's writing to end."""
_MAGIC = b"SQLite format 3\x00"
_LOCK = 0x656D6D61
"""Number of PostgreSQL's lock under which all is written."""
_LINE = "casebook_line"
"""Option of an engine: what threads hold that write."""
_LARGEST = 256 * 2**20
"""Bytes of the longest value that is read from an SQLite file."""


def open_database(where: str | Path, *, make: bool = True) -> Engine:
    """Connect to a database, make its tables where there are none, and bring older ones up to date.

    Args:
        where: the path of an SQLite file, which is made if it is missing; or a URL, as
            "postgresql+psycopg://user:password@host/name".
        make: make that file if it is missing.

    Raises:
        CasebookError: it cannot be reached, is missing, belongs to another program, is damaged, or was made by a newer
            version.
        MissingDependencyError: the database's driver is not installed.
    """
    url = _url(where)
    if url.get_backend_name() == "sqlite":
        _require_sqlite(url, make=make)
    try:
        engine = create_engine(url, **_options(url))
    except NoSuchModuleError as failure:
        raise CasebookError(
            f"{shown_url(url)}: SQLAlchemy knows no database {url.drivername!r}; as in sqlite:///cases.db or "
            "postgresql+psycopg://user@host/name."
        ) from failure
    except ImportError as failure:
        package = str(failure.name or url.get_driver_name())
        raise MissingDependencyError(package, f"open {shown_url(url)}", f"pip install {package}") from failure
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
    try:
        with writing(engine) as connection:
            _bring_up_to_date(connection)
    except BaseException:
        engine.dispose()
        raise
    return engine


def shown_url(url: URL) -> str:
    """A URL without its password and its options, of which some hold one; the path of an SQLite file."""
    if url.get_backend_name() == "sqlite" and url.database:
        return str(url.database)
    shown = url.set(query={}).render_as_string(hide_password=True)
    return f"{shown}?***" if url.query else shown


@contextmanager
def reading(engine: Engine) -> Generator[Connection]:
    """A connection on which one state of the database is seen.

    Raises:
        CasebookError: what went wrong, in a sentence.
    """
    with _explained(engine), engine.connect() as connection:
        if (
            connection.dialect.name == "postgresql"
        ):  # where else each statement sees what others wrote meanwhile
            connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection


@contextmanager
def writing(engine: Engine) -> Generator[Connection]:
    """A connection whose changes are all made at the end, or none.

    Raises:
        CasebookError: what went wrong, in a sentence.
    """
    with (
        _explained(engine),
        engine.get_execution_options().get(_LINE, nullcontext()),
        engine.connect().execution_options(casebook_writes=True) as connection,
        connection.begin(),
    ):
        if connection.dialect.name == "postgresql":
            # One after another, as on SQLite: what is written depends on what is there, which rows alone cannot lock.
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        yield connection


def _url(where: str | Path) -> URL:
    if isinstance(where, Path) or not re.match(r"[A-Za-z][A-Za-z0-9+_]*://", where):
        return URL.create("sqlite", database=os.path.abspath(named_path(where)))
    try:
        return make_url(where)
    except (ArgumentError, ValueError) as failure:
        raise CasebookError(
            "expected the URL of a database, as postgresql+psycopg://user:password@host/name, and this is none."
        ) from failure


def _options(url: URL) -> dict:
    # Threads of one program stand in line. SQLite lets whoever waits try again now and then, and some never win; at a
    # server each who waits would hold a connection, and readers would find none.
    line = {"execution_options": {_LINE: Lock()}}
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": PATIENCE}, **line}
    return {"pool_pre_ping": True, **line}


def _require_sqlite(url: URL, *, make: bool) -> None:
    if not url.database or url.database == ":memory:" or url.query:
        raise CasebookError(
            f"{shown_url(url)}: expected the path of a file, as sqlite:///cases.db, without options."
        )
    path = Path(url.database)
    if not path.exists():
        if not make:
            raise CasebookError(
                f"{path}: there is no casebook; `emma-viz cases mine` and `emma-viz cases import` make one, and "
                "--casebook names another."
            )
        require_writable(path, beside=(f"{path.name}-wal", f"{path.name}-shm"), error=CasebookError)
        return
    if not path.is_file():
        raise CasebookError(f"{path}: expected an SQLite file, got something else.")
    try:
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
    except OSError as failure:
        raise CasebookError(f"{path} cannot be read ({failure.strerror or failure}).") from failure
    if head not in (b"", _MAGIC):
        raise CasebookError(f"{path}: expected a casebook (an SQLite file), and it is none.")


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    """Settings of a new connection: transactions are ours, and nothing in a stranger's file acts by itself."""
    connection.isolation_level = None
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST)
    for setting in ("trusted_schema = OFF", "cell_size_check = ON", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {setting}")
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not names or VERSION_TABLE in names:  # another program's file stays as it is
        # Readers and a writer do not wait for one another. The file keeps it: whoever is first sets it for all.
        with suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA journal_mode = WAL")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("casebook_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _bring_up_to_date(connection: Connection) -> None:
    where = shown_url(connection.engine.url)
    names = set(inspect(connection).get_table_names())
    if connection.dialect.name == "sqlite":
        _require_own(connection, names, where)
    at = _version(connection) if VERSION_TABLE in names else None
    if at == NEWEST:
        return
    if at is None and CASE_ROWS.name in names:
        raise CasebookError(f"{where}: it has tables of a casebook, but does not say of which version.")
    _migrate(connection, at, where)


def _require_own(connection: Connection, names: set[str], where: str) -> None:
    """Refuse another program's file, and one in which somebody has put what acts by itself."""
    if names and VERSION_TABLE not in names:
        raise CasebookError(
            f"{where}: expected a casebook, found another program's tables ({', '.join(sorted(names)):.200})."
        )
    acting = connection.exec_driver_sql(
        "SELECT name FROM sqlite_master WHERE type IN ('trigger', 'view')"
    ).scalars()
    if found := [str(name) for name in acting]:
        raise CasebookError(
            f"{where}: it has triggers or views ({', '.join(found):.200}), which no casebook has; it was changed."
        )


def _version(connection: Connection) -> str | None:
    return connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar()


def _migrate(connection: Connection, at: str | None, where: str) -> None:
    """Run the steps that lack. Alembic is loaded here alone: it takes as long as all else."""
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "emma_viz.cases:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    known = {step.revision for step in ScriptDirectory.from_config(config).walk_revisions()}
    if at is not None and at not in known:
        raise CasebookError(
            f"{where}: it was made by a newer version of emma_viz (tables {at!r:.40}, this one knows {NEWEST}); "
            "update emma_viz. Nothing was changed."
        )
    command.upgrade(config, "head")


@contextmanager
def _explained(engine: Engine) -> Generator[None]:
    where = shown_url(engine.url)
    try:
        yield
    except (OperationalError, sqlite3.OperationalError) as failure:
        said = _said(failure)
        if "locked" in said or "lock timeout" in said:
            raise CasebookError(
                f"{where}: another program has been writing for more than {PATIENCE:g} s; try again, or end it."
            ) from failure
        raise CasebookError(f"{where} cannot be reached or used: {said}.") from failure
    except IntegrityError as failure:
        raise CasebookError(
            f"{where}: nothing was written, because it does not go with what is there ({_said(failure)}); if somebody "
            "else wrote at the same time, try again."
        ) from failure
    except (DBAPIError, sqlite3.Error) as failure:
        raise CasebookError(f"{where}: it is damaged, or no casebook: {_said(failure)}.") from failure
    except json.JSONDecodeError as failure:
        raise CasebookError(f"{where}: it is damaged: a list in it is no JSON ({failure}).") from failure
    except SQLAlchemyError as failure:
        raise CasebookError(f"{where}: {_said(failure)}.") from failure


def _said(failure: Exception) -> str:
    """What the database said, on one line, without the statement."""
    said = getattr(failure, "orig", None) or failure
    return " ".join(str(said).split()).rstrip(".")[:300]
