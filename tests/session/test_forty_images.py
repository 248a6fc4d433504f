"""A capture of forty images that is killed ends, when it is run again, in the bytes of one that nobody disturbed.

What a kill leaves is what lies on the disk at that moment. So one run is enough to see every kind of moment: the study
is copied right before each operation on it that is the first or the last of its kind, and each copy is finished.
"""

import hashlib
import os
import random
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from emma_viz.session import Asking, Running, capture
from emma_viz.study import open_study
from tests.session.killed_studies import EVENTS, start
from tests.session.test_interrupted_studies import CREATED, content

pytestmark = pytest.mark.slow
PHOTOGRAPHS = 40
MADE_UP = re.compile(r"(?<=\.)[0-9a-f]+(?=\.part)")
"""What tells the part of a file from other processes' parts of it."""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for number in range(PHOTOGRAPHS):
        Image.effect_noise((30 + number, 30), 60).convert("RGB").save(folder / f"{number:02d}.png")
    return sorted(folder.iterdir())


def captured(photographs, pair, path: Path) -> None:
    """Capture the photographs into a study, or go on with it."""
    capture(
        photographs, pair.models[:1], path, layers=(-1, 2), batch_size=8,
        asking=Asking(max_new_tokens=2), running=Running(vision_source=str(pair.vision)),
    )  # fmt: skip


@contextmanager
def watched(folder: Path, note: Callable[[str, int], None]) -> Iterator[None]:
    """Tell of each operation on a folder right before it: its kind, and its number."""
    count, busy, ended = 0, False, False

    def watch(event: str, arguments: tuple) -> None:
        nonlocal count, busy
        named = [os.fspath(each) for each in arguments if isinstance(each, str | Path)]
        if busy or ended or event not in EVENTS or not any(str(folder) in each for each in named):
            return
        busy = True
        try:
            kind = re.sub(
                r"[0-9a-f]{16,}|\d+", "#", MADE_UP.sub("", " ".join([event, *named]).replace(str(folder), ""))
            )
            note(kind, count)
            count += 1
        finally:
            busy = False

    sys.addaudithook(watch)  # one that stays: Python takes none away
    try:
        yield
    finally:
        ended = True


def shape(folder: Path) -> str:
    """All that lies in a study, names made up for parts aside."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*"), key=lambda path: MADE_UP.sub("", str(path))):
        digest.update(MADE_UP.sub("", str(path.relative_to(folder))).encode() + b"\0")
        digest.update(CREATED.sub(b"", path.read_bytes()) if path.is_file() else b"/")
    return digest.hexdigest()


@pytest.fixture(scope="module")
def whole(photographs, pair, tmp_path_factory):
    """What nobody disturbed, and the numbers of the operations that made it, by kind."""
    path, moments = tmp_path_factory.mktemp("forty") / "whole", {}
    with watched(path, lambda kind, number: moments.setdefault(kind, []).append(number)):
        captured(photographs, pair, path)
    return content(path), moments


def test_killed_at_every_kind_of_moment(photographs, pair, whole, tmp_path):
    expected, moments = whole
    chosen = {number for each in moments.values() for number in (each[0], each[-1])}
    disturbed, left = tmp_path / "disturbed", {}

    def keep(kind: str, number: int) -> None:
        if number in chosen and shape(disturbed) not in left:
            copy = left[shape(disturbed)] = tmp_path / f"killed-{number}"
            if disturbed.exists():
                shutil.copytree(disturbed, copy)

    with watched(disturbed, keep):
        captured(photographs, pair, disturbed)
    assert {kind.split()[0] for kind in moments} >= {"open", "os.mkdir", "os.rename", "os.remove", "os.chmod"}
    assert len(left) > 30
    for path in left.values():
        captured(photographs, pair, path)
        assert content(path) == expected, path.name
        assert [entry.n_samples for entry in open_study(path).entries.values()] == [PHOTOGRAPHS]


def test_killed_at_any_moment(photographs, pair, whole, tmp_path):
    expected, moments = whole
    command = {"name": "capture", "images": list(map(str, photographs)), "models": pair.models[:1]}
    command |= {"vision": str(pair.vision), "layers": [-1, 2], "batch_size": 8}
    studies = [tmp_path / name / "study" for name in "abc"]
    total = sum(map(len, moments.values()))
    steps = random.Random(20).sample(range(total), len(studies))
    work = [(command, study, step) for study, at in zip(studies, steps, strict=True) for step in (at, None)]
    assert start(work) == ["killed", "done"] * len(studies)
    for study in studies:
        assert content(study) == expected
