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

SETTLED, RUNS, VISITORS, PHOTOS = 40, 200, 4, 6
"""Runs until all caches are full; runs in all; pages that take turns; images that they bring in turn."""
SIDES = (480, 360)
"""Of an image. 160 results that stayed would hold 80 MB of it, in one copy alone."""
ALLOWED = 12.0
"""Megabytes by which memory may differ: a seventh of that, and several times what an allocator wavers by."""


def held() -> float:
    """Megabytes that this process holds, without what is only waiting to be given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return resident(os.getpid())


def files(*folders: Path) -> list[Path]:
    """All files below some folders."""
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())


def test_neither_memory_nor_temporary_files_grow_over_200_runs(service, ask, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    photos = []
    for number in range(PHOTOS):
        photos.append(tmp_path / f"photo{number}.png")
        Image.new("RGB", SIDES, (30 * number, 90, 120)).save(photos[-1])
    secrets = [service.sessions.open() for _ in range(VISITORS)]
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
        if run in (SETTLED, RUNS):
            marks[run] = held(), files(scratch, service.folder)
    assert marks[RUNS][1] == marks[SETTLED][1]
    assert abs(marks[RUNS][0] - marks[SETTLED][0]) < ALLOWED, {run: mark[0] for run, mark in marks.items()}
