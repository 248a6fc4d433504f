"""A casebook on SQLite and one on a real PostgreSQL server, which is started for the tests."""

import itertools
import os
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from emma_viz.cases.casebook import Casebook

_NUMBERS = itertools.count()


def _programs() -> Path | None:
    """The folder of PostgreSQL's programs."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


@pytest.fixture(scope="session")
def postgres():
    """The address of a server of its own, which nobody else reaches: it listens on a socket in a private folder."""
    programs = _programs()
    if programs is None:
        assert not os.environ.get("CI"), "PostgreSQL is missing; scripts/setup-database installs it"
        pytest.skip("PostgreSQL is not installed; scripts/setup-database installs it")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path may have 107 bytes
    # The server refuses to run as root.
    person = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if person:
        shutil.chown(folder, "postgres")
    data = folder / "data"

    def run(*words: object) -> None:
        subprocess.run([*person, *map(str, words)], check=True, cwd=folder, capture_output=True, timeout=120)

    run(programs / "initdb", "-D", data, "-A", "trust", "-U", "emma", "-E", "UTF8", "--no-sync", "--locale=C")
    options = f"-k {folder} -c listen_addresses= -c fsync=off -c max_connections=60"
    run(programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
    try:
        yield f"postgresql+psycopg://emma@/{{}}?host={folder}"
    finally:
        run(programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request, tmp_path) -> str:
    """Where a new, empty database is."""
    if request.param == "sqlite":
        return str(tmp_path / "cases.db")
    return new_database(request.getfixturevalue("postgres"))


def new_database(server: str) -> str:
    """Make one on the server; its address."""
    import psycopg

    name = f"cases_{secrets.token_hex(4)}_{next(_NUMBERS)}"
    host = server.rpartition("=")[2]
    with psycopg.connect(host=host, user="emma", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # ty: ignore[no-matching-overload]
    return server.format(name)


@pytest.fixture
def casebook(address):
    """An empty casebook."""
    with Casebook.open(address) as opened:
        yield opened
