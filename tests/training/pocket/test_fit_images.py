"""Hashes of the scenes that bundled lenses were fitted on."""

import json
import shutil

import pytest
from safetensors import safe_open

from emma_viz.checkpoints import BUNDLED
from emma_viz.data.images import image_hash, read_image
from emma_viz.data.tabletop import draw_scene, make_scene
from emma_viz.lens import bundled_lenses, read_info
from emma_viz.lens.files import rewrite_info
from emma_viz.lens.headers import FIT_IMAGES
from training.pocket.fit_images import main
from training.pocket.scenes import drawn_scenes

COUNT = 3


@pytest.fixture
def bundle(tmp_path):
    """A bundled model that was trained on three scenes, whose lens does not say on which."""
    folder = tmp_path / "cobra-pocket"
    folder.mkdir()
    shutil.copy(BUNDLED / "cobra-pocket/ridge.lens", folder)
    rewrite_info(folder / "ridge.lens", fit_images=(), n_fit=COUNT - 1)
    data = {"world": "tabletop", "scenes": COUNT, "digest": drawn_scenes("train", COUNT).digest}
    (folder / "config.json").write_text(json.dumps({"emma_viz": {"provenance": {"data": data}}}))
    return tmp_path


def tensors(path):
    with safe_open(path, framework="numpy") as file:
        weights = [name for name in file.keys() if name != FIT_IMAGES]  # noqa: SIM118
        return {name: file.get_tensor(name).tobytes() for name in weights}


def test_the_hashes_are_written_and_the_weights_are_not(bundle, capsys):
    lens = bundle / "cobra-pocket/ridge.lens"
    before, info = tensors(lens), read_info(lens)
    assert main([str(bundle)]) == 0
    assert capsys.readouterr().out == f"{lens}\n"
    hashes = [
        image_hash(read_image(draw_scene(make_scene("train", index)).image))[:8] for index in range(COUNT)
    ]
    assert read_info(lens).to_json() == info.to_json() | {"fit_images": tuple(hashes[: COUNT - 1])}
    assert tensors(lens) == before


def test_scenes_that_are_drawn_otherwise_today_are_not_taken(bundle, capsys):
    config = bundle / "cobra-pocket/config.json"
    config.write_text(config.read_text().replace('"digest": "', '"digest": "0'))
    before = (bundle / "cobra-pocket/ridge.lens").read_bytes()
    assert main([str(bundle)]) == 1
    assert "the same 3 have" in capsys.readouterr().err
    assert (bundle / "cobra-pocket/ridge.lens").read_bytes() == before


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


def test_a_model_that_does_not_say_what_it_was_trained_on_is_refused(bundle, capsys):
    config = bundle / "cobra-pocket/config.json"
    config.write_text(json.dumps({"emma_viz": {"provenance": {"data": {"world": "tabletop"}}}}))
    assert main([str(bundle)]) == 1
    assert "config.json: `data`" in capsys.readouterr().err
