"""Controls of bundled lenses: measured again on the scenes that they were measured on, and no weight is touched."""

import shutil

import pytest

from emma_viz.checkpoints import BUNDLED, load_model
from emma_viz.errors import TrainingError
from emma_viz.lens import bundled_lenses, read_info
from emma_viz.lens.controls import verdicts
from emma_viz.lens.evaluation import with_quality
from emma_viz.lens.files import load_lens, rewrite_info
from training.loop.lenses import decodings
from training.pocket.lens_controls import add_controls, weights_hash
from training.pocket.scenes import drawn_scenes


@pytest.mark.slow
def test_controls_are_written_and_weights_are_not(tmp_path):
    path = tmp_path / "ridge.lens"
    shutil.copy(BUNDLED / "cobra-pocket/ridge.lens", path)
    model, scenes = load_model("cobra-pocket"), list(drawn_scenes("test", 4).images)
    with pytest.raises(TrainingError, match="not those that it was measured on"):
        add_controls(model, path, scenes)
    quality = with_quality(load_lens(path), decodings(model, load_lens(path), scenes)).info.quality
    before, info = weights_hash(path), rewrite_info(path, quality=quality, controls=())
    add_controls(model, path, scenes)
    after = read_info(path)
    assert weights_hash(path) == before
    assert [each.layer for each in after.controls] == list(info.layers)
    assert after.quality == quality


@pytest.mark.parametrize("name", bundled_lenses())
def test_every_bundled_lens_knows_whether_it_beats_its_control(name):
    model, kind = name.split("/")
    info = read_info(BUNDLED / model / f"{kind}.lens")
    measured = [each.layer for each in info.quality]
    assert [each.beats for each in verdicts(info.controls, measured)] == [True] * len(measured)
