"""Hostile pictures and sidecars: each is drawn, or refused in a sentence."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.hostile.inputs.pictures import sound_spec
from emma_viz.render import read_spec, save

ROOT = Path(__file__).resolve().parents[2]
REFUSED = {
    "arrays:": 20, "recipe of": 4, "6000 images": 1, "120000 notes": 1, "one wide": 1, "one long": 1, "two recipes": 2,
    "entities": 1,
}  # fmt: skip
"""How what must be refused begins → how many there are of it."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["0", "1"])
def test_every_hostile_picture_is_drawn_or_refused_in_a_sentence(seed):
    # In a process of its own, without this suite's type checks: they would refuse first, and otherwise.
    command = [sys.executable, "-W", "error", "-m", "benchmarks.hostile.inputs.pictures", seed]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    verdicts = json.loads(ended.stdout)
    assert all(len(said) < 3000 for _, said in verdicts)
    refused = [what for what, said in verdicts if said]
    counts = Counter(kind for what in refused for kind in REFUSED if what.startswith(kind))
    assert counts == REFUSED
    assert any(not said for _, said in verdicts)


def test_the_sound_picture_is_read(tmp_path):
    for suffix in (".png", ".svg", ".pdf", ".html"):
        assert read_spec(save(sound_spec(), tmp_path / f"a{suffix}", dpi=40)).images[0].title == "image.png"
