"""One figure shows what can be compared; what cannot is refused with both sides named."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from emma_viz.errors import InputError
from emma_viz.maps.decoding import Decoding
from emma_viz.session import View, figure
from tests.apps.test_one_colour import made

RECIPE = {"seed": 1, "tone": 90, "look": "noise", "errors": (0.1, 0.3), "gaps": False}


@pytest.fixture(scope="module")
def pair() -> tuple[Decoding, Decoding]:
    first, second = made(**RECIPE).decodings
    return first, second


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"image_hashes": ("other",)}, "first has the images same and second other"),
        ({"prompts": ("Why?",)}, r"first has the prompts what\? and second Why\?"),
    ],
)
def test_maps_of_other_images_or_prompts_are_refused(pair, change, sentence):
    first, second = pair
    with pytest.raises(InputError, match=sentence):
        figure(first.maps(), dataclasses.replace(second, **change).maps())


def test_maps_of_more_images_are_refused(pair):
    first, second = pair
    two = dataclasses.replace(
        second,
        patches=np.repeat(second.patches, 2, axis=1), true=np.repeat(second.true, 2, axis=0),
        views=np.repeat(second.views, 2, axis=0), geometry=second.geometry * 2,
        images=(*second.images, Image.new("RGB", (48, 48))), image_hashes=("same", "more"), prompts=("what?",) * 2,
    )  # fmt: skip
    for maps in ((first.maps(), two.maps()), (two.maps(), first.maps())):
        with pytest.raises(InputError, match="the images"):
            figure(*maps)


def test_maps_of_other_kinds_and_scales_are_refused(pair):
    first, second = pair
    with pytest.raises(InputError, match="first has maps of the kind distance and second error"):
        figure(first.maps(), second.maps("error"))
    with pytest.raises(InputError, match="first has the scale shared and second per_map"):
        figure(first.maps(), second.maps(scale="per_map"))


def test_a_view_that_asks_for_other_maps_is_refused(pair):
    maps = pair[0].maps(scale="fixed", limits=(0.1, 2.0))
    with pytest.raises(InputError, match=r"'error', and these are 'distance'.*maps\('error'\)"):
        figure(maps, view=View(map_kind="error"))
    for scale in ("per_map", "0.1:3"):
        with pytest.raises(InputError, match=f"the scale '{scale}', and these maps were made with 'fixed'"):
            figure(maps, view=View(scale=scale))
    figure(maps, view=View(map_kind="distance", scale="0.1:2"))
    figure(maps)


@pytest.mark.parametrize("scale", ["nonsense", "1", "2:1", "nan:1", "0:inf", "1:1", "a:b", ""])
def test_a_nonsense_scale_is_no_view(scale):
    with pytest.raises(InputError, match="expected a scale of shared"):
        View(scale=scale)


WRONG = """
import torch
from tests.apps.test_one_colour import made
from emma_viz import figure, record
from emma_viz.capture import Recorder
from emma_viz.checkpoints.loaded import LoadedLanguageModel
from emma_viz.errors import InputError
from emma_viz.session import Comparison

class Foreign(torch.nn.Module): pass

pair = made(seed=1, tone=90, look="noise", errors=(0.1, 0.3), gaps=False)
alone = LoadedLanguageModel(llm=Foreign(), tokenizer=None, info=None)
for call in (
    lambda: figure(pair.decodings[0]), lambda: figure(pair), lambda: figure([pair.decodings[0].maps()]),
    lambda: figure(7), lambda: figure(), lambda: record(Foreign(), "a.png", "?"), lambda: record(alone, "a.png", "?"),
    lambda: record("cobra-pocket", "a.png", "?"),
):
    try:
        call()
    except InputError as error:
        print(error)
layers = torch.nn.Sequential(torch.nn.Linear(2, 2))
with Recorder(layers, ["0"]) as recorder:
    layers(torch.zeros(1, 2))
print(list(recorder), len(recorder), "0" in recorder)
"""


def test_what_is_no_maps_and_no_model_says_what_to_do():
    """In a process of its own, without the checks of types that the tests add to every call."""
    done = subprocess.run([sys.executable, "-c", WRONG], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    expected = (
        "got a Decoding; make its maps: decoding.maps()",
        "comparison.figure()",
        "figure(*maps)",
        "got a int",
        "at least one model",
        "got a Foreign, which has no vlm. Hook any other module with Recorder",
        "give None for the images: record(model, None, prompts)",
        "load_model('cobra-pocket')",
        "['0'] 1 True",
    )
    for line, words in zip(done.stdout.splitlines(), expected, strict=True):
        assert words in line
