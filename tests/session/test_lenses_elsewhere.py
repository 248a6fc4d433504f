"""Lenses are found by the fingerprint of the weights, not by the folder that they lie in."""

import shutil
from dataclasses import replace

import pytest

from emma_viz.errors import LensError, LensMismatchError
from emma_viz.lens import load_lens, save_lens
from emma_viz.session import Asking, Running, View, capture, compare, compare_study, decode_study

SHORT = Asking(max_new_tokens=1)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of our own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "cache/emma_viz/lenses"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def model(pair, tmp_path, cache):
    """A run directory without its lens, which is given beside it."""
    folder = tmp_path / "runs" / "cobra"
    shutil.copytree(pair.cobra, folder)
    return folder, (folder / "ridge.lens").rename(tmp_path / "kept.lens")


PLACES = {
    "the model's folder, by another name": "runs/cobra/mine.lens",
    "beside the model": "runs/cobra-resid.lens",
    "the cache": "cache/emma_viz/lenses/anything.lens",
}


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_lens_is_found_by_name_of_its_model_and_for_its_study(model, pair, photos, tmp_path, place):
    folder, lens = model
    shutil.copy(pair.lens_of_emma, tmp_path / place.replace(".lens", "-of-another.lens"))
    shutil.move(lens, tmp_path / place)
    running = Running(vision_source=str(pair.vision))
    compared = compare(photos[0], [folder], asking=SHORT, running=running)
    assert not compared.decodings[0].forced
    study = tmp_path / "study"
    capture([photos[0]], [folder], study, asking=SHORT, running=running)
    (decoded,) = decode_study(study)
    assert decoded.lens == compared.decodings[0].lens
    assert compare_study(study).spec(View()).images[0].models[0].lens == decoded.lens.describe()


def test_a_study_whose_model_is_gone_is_decoded_from_the_cache(model, pair, photos, tmp_path, cache):
    folder, lens = model
    capture(
        [photos[0]],
        [folder],
        tmp_path / "study",
        asking=SHORT,
        running=Running(vision_source=str(pair.vision)),
    )
    shutil.rmtree(folder)
    with pytest.raises(
        LensError, match=r"No ridge lens of the weights \w{12} was found \(looked at .*emma_viz/lenses"
    ):
        decode_study(tmp_path / "study")
    shutil.move(lens, cache)
    assert decode_study(tmp_path / "study")


@pytest.fixture
def nothing_loads(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("emma_viz.session.loading.load_model", refuse)


@pytest.mark.usefixtures("nothing_loads")
def test_without_a_lens_anywhere_nothing_is_loaded(model, pair, photos, tmp_path):
    folder, lens = model
    running = Running(vision_source=str(pair.vision))
    with pytest.raises(
        LensError, match=r"No ridge lens of the weights .*cobra/ridge\.lens.*runs.*emma_viz/lenses"
    ):
        compare(photos[0], [folder], asking=SHORT, running=running)
    other = load_lens(lens)
    save_lens(replace(other, info=replace(other.info, model_fingerprint="a" * 32)), folder / "ridge.lens")
    with pytest.raises(LensMismatchError, match="aaaaaaaaaaaa"):
        compare(photos[0], [folder], asking=SHORT, running=running)
