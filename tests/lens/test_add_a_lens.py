"""The example in docs/extending/add-a-lens.md works as printed, from fit to figure, as a package that was installed."""

import importlib
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image

from emma_viz.capture import record
from emma_viz.errors import LensError, LensMismatchError
from emma_viz.lens import Lens, find_lens, load_lens, read_info, recording_for, save_lens
from emma_viz.lens.info import TAPS
from emma_viz.lens.kinds import kind_names
from emma_viz.lens.protocol import pictures_of
from emma_viz.maps import decode
from emma_viz.session import View, figure
from tests.installed import install
from tests.tiny_model import tiny_model, tiny_tokenizer

PAGE = Path(__file__).parents[2] / "docs" / "extending" / "add-a-lens.md"


@pytest.fixture
def page():
    text = PAGE.read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (points,) = re.findall(
        r"```toml\n\[project.entry-points.\"emma_viz.lenses\"\]\n(.*?)```", text, flags=re.DOTALL
    )
    return code, points.replace('"', "")


@pytest.fixture
def tiny():
    return tiny_model("tiny-cobra", tiny_tokenizer())


@pytest.fixture
def module(page, tmp_path, monkeypatch):
    code, points = page
    install(tmp_path, monkeypatch, "colour_lens", code, "emma_viz.lenses", points)
    return importlib.import_module("colour_lens")


def scenes(count, seed):
    """Images whose patches differ in colour."""
    draw = np.random.default_rng(seed)
    colours = draw.integers(0, 256, (count, 5, 5, 3), dtype=np.uint8)
    return [Image.fromarray(each).resize((60, 60), Image.Resampling.NEAREST) for each in colours]


def test_the_documented_lens_goes_from_fit_to_figure(module, tiny, tmp_path):
    assert kind_names() == ("ridge", "tuned", "native", "colour")
    images = scenes(12, 0)
    lens = module.fit_colours(tiny, images, heldout=scenes(4, 1), fitted_on="noise")
    assert isinstance(lens, Lens)
    assert pictures_of(lens) == "layers"
    path = save_lens(lens, tmp_path / "run" / "mine.lens")
    back = load_lens(path)
    assert back.info == lens.info
    assert torch.equal(back.weight, lens.weight)
    placed = replace(tiny, folder=path.parent)
    assert find_lens(placed, "colour") == path
    sites, layers = recording_for(back)
    trace = record(placed, [images[0], *scenes(1, 2)], "What?", sites=sites, layers=layers, max_new_tokens=1)
    decoding = decode(trace, load_lens(placed, "colour"))
    patches = decoding.patches
    assert np.array_equal(patches, np.broadcast_to(patches[..., :1, :1, :], patches.shape))
    assert any("fitted on 1 of these images" in note for note in decoding.notes)
    drawn = figure(decoding.maps(), view=View(layers=(0, 2)))
    assert "colour lens, resid_post, held-out R²" in " ".join(text.get_text() for text in drawn.findobj(Text))


def test_such_a_lens_can_be_forced_on_another_site_and_one_of_taps_cannot(module, tiny):
    lens = module.fit_colours(tiny, scenes(6, 0), heldout=scenes(2, 1), fitted_on="noise")
    trace = record(tiny, scenes(1, 2), "What?", sites=("mixer_out",), generate=False)
    with pytest.raises(LensMismatchError, match="it reads resid_post, the states are of mixer_out"):
        decode(trace, lens, layers=[0])
    assert decode(trace, lens, layers=[0], force=True).site == "mixer_out"

    class Taps(module.ColourLens):
        def reads(self, layer):
            return (("resid_post", 0), ("resid_post", layer))

    taps = Taps(info=replace(lens.info, site=TAPS, layers=(2,)), weight=lens.weight[2:])
    assert pictures_of(taps) == "one"
    with pytest.raises(LensMismatchError, match="Record what recording_for"):
        decode(trace, taps, force=True)


def test_a_file_that_its_reader_refuses_is_named(module, tiny, tmp_path):
    lens = module.fit_colours(tiny, scenes(6, 0), heldout=scenes(2, 1), fitted_on="noise")
    path = save_lens(replace(lens, weight=lens.weight[:, :, :2]), tmp_path / "odd.lens")
    with pytest.raises(LensError, match=r"odd\.lens: a colour lens has one tensor"):
        load_lens(path)


def test_a_lens_of_a_package_that_is_gone_is_named(module, tiny, tmp_path, monkeypatch):
    path = save_lens(
        module.fit_colours(tiny, scenes(6, 0), heldout=scenes(2, 1), fitted_on="noise"), tmp_path / "a.lens"
    )
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each != str(tmp_path)])
    with pytest.raises(LensError, match=r"no kind of lens 'colour'; choose one of ridge, tuned, native"):
        load_lens(path)
    assert read_info(path).kind == "colour"
