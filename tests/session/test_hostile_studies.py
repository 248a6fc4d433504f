"""Studies that were made to do harm: each is judged, within limits, and nothing outside its folder is touched."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.hostile.studies import hostile_studies, make_sound

ROOT = Path(__file__).resolve().parents[2]
ROOM = 500
"""Megabytes that judging a study may take."""


def judged(kinds):
    """(name, what went wrong, refusal, megabytes, seconds) of each, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.session.judged_studies"],
        cwd=ROOT,
        input=json.dumps([(name, str(path)) for name, path in kinds]),
        capture_output=True,
        text=True,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{kinds[len(found)]} ended the process: {done.stderr[-2000:]}"
    return found


def content(folder):
    """All files below a folder."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("share", [0.05, pytest.param(1.0, marks=pytest.mark.slow)])
def test_hostile_studies_are_judged(tmp_path, share):
    kinds = []
    for name, path in hostile_studies(tmp_path, seed=7, share=share):
        if not kinds:
            victim = content(tmp_path / "victim")
        kinds.append((name, path))
    assert len(kinds) > 1500 * share
    for name, wrong, refused, megabytes, _ in judged(kinds):
        assert not wrong, f"{name}: {wrong}"
        assert megabytes <= ROOM, f"{name}: {megabytes} MB"
        # One value in place of another may make sense; everything else is refused.
        assert refused or any(sign in name for sign in (" = ", ": no ")), name
        assert refused.isprintable(), name
    assert content(tmp_path / "victim") == victim


def test_the_sound_study_is_not_refused(tmp_path):
    make_sound(tmp_path / "study", 7)
    ((_, wrong, refused, _, _),) = judged([("sound", tmp_path / "study")])
    assert not wrong
    assert not refused
