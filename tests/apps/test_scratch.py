"""The server's temporary folder: there while it lives, gone with it, swept after a kill, and nobody else's."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from apps.explorer.scratch import LOCK, PREFIX, Scratch, sweep

ROOT = Path(__file__).resolve().parents[2]
HOLD = "from apps.explorer.scratch import Scratch; import time; print(Scratch().path, flush=True); time.sleep(600)"


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The system's folder for temporary files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_goes_with_its_server(place):
    scratch = Scratch()
    (scratch.path / "file").write_text("x")
    assert scratch.path.stat().st_mode & 0o777 == 0o700
    assert sweep(place) == []
    scratch.close()
    scratch.close()
    assert not list(place.iterdir())


def test_folders_of_killed_servers_are_swept_and_those_of_living_ones_stay(place):
    servers = [
        subprocess.Popen([sys.executable, "-c", HOLD], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        dead, living = (Path(server.stdout.readline().strip()) for server in servers)
        servers[0].send_signal(signal.SIGKILL)
        servers[0].wait(60)
        assert dead.is_dir()
        mine = Scratch()
        assert not dead.exists()
        assert living.is_dir()
        mine.close()
    finally:
        for server in servers:
            server.kill()
            server.communicate()


def test_only_what_is_surely_ours_is_swept(place):
    away = place / "away"
    away.mkdir()
    (away / LOCK).touch()
    (away / "thesis").write_text("x")
    (place / f"{PREFIX}link").symlink_to(away)  # a link to a folder that looks dead
    unlocked = place / f"{PREFIX}unlocked"  # another program's, or an older version's
    unlocked.mkdir()
    linked = place / f"{PREFIX}linked"
    linked.mkdir()
    (linked / LOCK).symlink_to(away / "thesis")
    pipe = place / f"{PREFIX}pipe"
    pipe.mkdir()
    os.mkfifo(pipe / LOCK)
    (place / f"{PREFIX}file").touch()
    inside = place / f"{PREFIX}inside"  # dead, and ours: a link in it goes, and not what it leads to
    inside.mkdir()
    (inside / LOCK).touch()
    (inside / "out").symlink_to(away)
    assert sweep(place) == [inside]
    assert (away / "thesis").read_text() == "x"
    assert (place / f"{PREFIX}link").is_symlink()
    assert all(each.is_dir() for each in (unlocked, linked, pipe))
