"""The members that ship, asked about made-up photographs that the library calls held out."""

import re

import numpy as np
import pytest
from PIL import Image

from emma_viz.checkpoints import BUNDLED
from emma_viz.data.photos import PHOTO_CATEGORIES
from emma_viz.errors import TrainingError
from tests.photographs import made_photographs
from training.pocket.bundle_reading import open_bundle
from training.results.held_out import held_out_answers, main
from training.results.worlds import PHOTO_WORLD, PhotoPair


class Named(PhotoPair):
    """A world in which every picture shows what `always` says."""

    always: frozenset[str]

    def present(self, number):
        return self.always


def world_of(folder, kind=PhotoPair):
    confused = tuple(((n + 1) % len(PHOTO_CATEGORIES),) for n in range(len(PHOTO_CATEGORIES)))
    return kind(folder=folder, confused=confused)


@pytest.mark.slow
def test_each_answer_is_held_against_what_is_there(tmp_path):
    photos = made_photographs(tmp_path / "photos", each=2)
    bundle, world = open_bundle(BUNDLED, world=PHOTO_WORLD), world_of(photos, Named)
    world.always = frozenset()
    lines = held_out_answers(bundle, world, 3, keep=tmp_path / "shown").splitlines()
    assert lines[0] == "| shown | cobra-photo | emma-v1-photo |"
    assert len(lines) == 2 + 3 + 1
    for number, line in enumerate(lines[2:-1]):
        place = world.library.split("test")[world.plan("test", 2 * number).things[0].photo].path
        name, *answers = line.strip("| ").split(" | ")
        assert photos / name == place
        assert all(re.fullmatch(r"“.+” \(wrong\)", each) for each in answers)
        with Image.open(tmp_path / "shown" / f"{place.parent.name}-{place.stem}.png") as shown:
            assert shown.size == (256, 256)
    assert lines[-1] == "| right | 0 of 3 | 0 of 3 |"
    first = lines[2].strip("| ").split(" | ")[1].removesuffix(" (wrong)")
    world.always = world.named(first)
    again = held_out_answers(bundle, world, 1).splitlines()
    assert f"| {first} |" in again[2]
    assert again[-1].startswith("| right | 1 of 1 |")
    assert np.unique([len(line.split(" | ")) for line in lines]) == 3


def test_what_cannot_be_asked_is_refused(tmp_path, capsys):
    photos = made_photographs(tmp_path / "photos", each=2)
    world = world_of(photos)
    there = len(world.library.split("test"))
    with pytest.raises(TrainingError, match=f"has {there} held-out photographs; got --count {there + 1}"):
        held_out_answers(open_bundle(BUNDLED, world=PHOTO_WORLD), world, there + 1)
    assert main(["--photos", str(photos), "--count", "0"]) == 1
    assert "--count must be at least 1, got 0" in capsys.readouterr().err
    assert main(["--photos", str(photos)]) == 1
    assert "Name the photographs that it was trained on" in capsys.readouterr().err
