"""What the lenses that ship say of the scenes they were fitted on, and whether they beat their controls."""

import pytest

from emma_viz.checkpoints import BUNDLED
from emma_viz.data.images import image_hash, read_image
from emma_viz.data.tabletop import draw_scene, make_scene
from emma_viz.lens import bundled_lenses, read_info
from emma_viz.lens.controls import verdicts


@pytest.mark.parametrize("name", bundled_lenses())
def test_bundled_lenses_know_their_images(name):
    info = read_info(BUNDLED / f"{name}.lens")
    assert len(info.fit_images) == info.n_fit
    assert info.fit_images[0] != info.fit_images[-1]


@pytest.mark.parametrize("name", [name for name in bundled_lenses() if "pocket" in name])
def test_bundled_lenses_know_their_scenes(name):
    info = read_info(BUNDLED / f"{name}.lens")
    first, far, held_out = (
        image_hash(read_image(draw_scene(make_scene(split, index)).image))
        for split, index in (("train", 0), ("train", info.n_fit), ("test", 0))
    )
    assert info.saw(first)
    assert not info.saw(far)
    assert not info.saw(held_out)


@pytest.mark.parametrize("name", bundled_lenses())
def test_every_bundled_lens_knows_whether_it_beats_its_control(name):
    info = read_info(BUNDLED / f"{name}.lens")
    measured = [each.layer for each in info.quality]
    assert [each.beats for each in verdicts(info.controls, measured)] == [True] * len(measured)
