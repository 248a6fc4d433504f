"""Studies that were made to do harm: each is judged, within limits, and nothing outside its folder is touched."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.hostile.inputs.studies import hostile_studies, make_sound

ROOT = Path(__file__).resolve().parents[2]
MAY_MAKE_SENSE = (" = ", ": no ", "decoded pixels that are")
"""One value in place of another may; and pixels that are no numbers are drawn grey, and counted in the footer."""
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


@pytest.mark.slow
def test_hostile_studies_are_judged(tmp_path):
    # Some; `python -m benchmarks.robustness` tries a tenth of all, drawn by its --seed.
    kinds = list(hostile_studies(tmp_path, seed=7, share=0.03))
    assert len(kinds) > 50
    make_sound(tmp_path / "study", 7)
    victim = content(tmp_path / "victim")
    for name, wrong, refused, megabytes, _ in judged([*kinds, ("sound", tmp_path / "study")]):
        assert not wrong, f"{name}: {wrong}"
        assert megabytes <= ROOM, f"{name}: {megabytes} MB"
        assert refused.isprintable(), name
        if not any(sign in name for sign in MAY_MAKE_SENSE):
            assert bool(refused) == (name != "sound"), f"{name}: {refused}"
    assert content(tmp_path / "victim") == victim
