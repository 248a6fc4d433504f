"""What the server holds after many runs: nothing that an earlier run brought."""

import ctypes
import gc
import os
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from tests.apps.visiting import resident

pytestmark = pytest.mark.slow

RUNS, VISITORS, PHOTOS = 100, 4, 6
"""Runs in all; pages that take turns; images that they bring in turn."""
EARLY, LATE = (40, 45, 50, 55, 60), (80, 85, 90, 95, 100)
"""Runs after which the process is weighed, once all caches are full. The lowest of each counts: what is held is there
every time, while what an allocator keeps for later comes and goes by more than ten megabytes."""
SIDES = (680, 510)
"""Of an image. 40 results that stayed would hold 42 MB of it, in one copy alone."""
ALLOWED = 6.0
"""Megabytes by which memory may differ: a seventh of that."""


def held() -> tuple[float, int]:
    """Megabytes and Python's containers that this process holds, without what is only waiting to be given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return resident(os.getpid()), len(gc.get_objects())


def files(*folders: Path) -> str:
    """All files below some folders, as one text: what is kept of a weighing must weigh nothing in the next."""
    return "\n".join(sorted(str(path) for folder in folders for path in folder.rglob("*") if path.is_file()))


def test_neither_memory_nor_temporary_files_grow_over_100_runs(service, ask, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    photos = []
    for number in range(PHOTOS):
        photos.append(tmp_path / f"photo{number}.png")
        Image.new("RGB", SIDES, (30 * number, 90, 120)).save(photos[-1])
    secrets = [service.sessions.open(service.uploads.visitor()) for _ in range(VISITORS)]
    marks = {}
    for run in range(1, RUNS + 1):
        news = ask(photos[run % PHOTOS], secret=secrets[run % VISITORS], tokens=2)
        assert news["stage"] == "ready", news
        sent = service.payload(news)
        assert service.file_of(sent["image"]["hash"]).is_file()
        if run % 20 == 0:
            assert "error" not in service.words({**news, "places": [1, 1]})
            assert "error" not in service.attribute({**news, "model": 0, "word": 0})
            assert "error" not in service.save({**news, "format": "html" if run % 40 else "zip"})
        if run in (*EARLY, *LATE):
            marks[run] = *held(), files(scratch, service.folder)
    assert all(marks[run][2] == marks[EARLY[0]][2] for run in marks)
    memory, containers = (
        (min(marks[run][i] for run in EARLY), min(marks[run][i] for run in LATE)) for i in (0, 1)
    )
    assert abs(memory[1] - memory[0]) < ALLOWED, {run: mark[0] for run, mark in marks.items()}
    assert abs(containers[1] - containers[0]) < LATE[0] - EARLY[-1], {
        run: mark[1] for run, mark in marks.items()
    }
