"""Names, prompts and notes of a figure that is drawn from Python."""

import dataclasses
import json

import numpy as np

from emma_viz.data.labels import ImageLabel
from emma_viz.maps.decoding import Decoding
from emma_viz.render.footer import provenance
from emma_viz.session import View
from emma_viz.session.picture import figure_spec
from tests.apps.test_one_colour import made

RECIPE = {"seed": 1, "tone": 90, "look": "noise", "errors": (0.1, 0.3), "gaps": False}
WIDE = "its colour profile (Wide) is ignored"


def asked(decoding: Decoding) -> Decoding:
    """The same image under two prompts."""
    return dataclasses.replace(
        decoding,
        patches=np.repeat(decoding.patches, 2, axis=1), true=np.repeat(decoding.true, 2, axis=0),
        views=np.repeat(decoding.views, 2, axis=0), geometry=decoding.geometry * 2, images=tuple(decoding.images) * 2,
        image_hashes=decoding.image_hashes * 2, prompts=("What?", "Why?"), answers=("A cup.", "Because."),
        labels=(ImageLabel(name="cup.png", notes=(WIDE,)),) * 2,
    )  # fmt: skip


def test_several_prompts_about_one_image_draw_its_maps_once():
    first, second = (asked(each) for each in made(**RECIPE).decodings)
    (case,) = figure_spec([first.maps(), second.maps()], view=View()).images
    assert case.title == "cup.png"
    assert case.prompt == "(1) What? (2) Why?"
    assert [model.answer for model in case.models] == ["(1) A cup. (2) Because."] * 2


def test_prompts_that_change_the_maps_have_a_picture_each():
    """As where the instruction is mixed into the image's tokens, or these see the text behind them."""
    first, second = (asked(each) for each in made(**RECIPE).decodings)
    patches = second.patches.copy()
    patches[-1, 1] += 0.1
    changed = dataclasses.replace(second, patches=patches)
    cases = figure_spec([first.maps(), changed.maps()], view=View()).images
    assert [case.title for case in cases] == ["cup.png"] * 2
    assert [case.prompt for case in cases] == ["What?", "Why?"]
    assert [case.models[1].answer for case in cases] == ["A cup.", "Because."]
    assert not np.array_equal(cases[0].models[1].decoded, cases[1].models[1].decoded, equal_nan=True)
    (said,) = [
        text for what, text in provenance(figure_spec([changed.maps()], view=View())) if what == "Images"
    ]
    assert said.count("cup.png") == 1
    # What no screen shows is no difference.
    patches = second.patches.copy()
    patches[:, 1] += 1e-4
    close = dataclasses.replace(second, patches=patches)
    assert len(figure_spec([first.maps(), close.maps()], view=View()).images) == 1


def test_names_and_notes_of_images_and_hooks_are_printed():
    first, _ = (asked(each) for each in made(**RECIPE).decodings)
    noted = dataclasses.replace(first, notes=("forward hooks of others were on layers.3",))
    spec = figure_spec([noted.maps()], view=View())
    printed = [text for what, text in provenance(spec) if what == "Note"]
    assert printed == ["first: forward hooks of others were on layers.3", f"cup.png: {WIDE}"]


def test_two_images_of_one_name_are_told_apart():
    one = asked(made(**RECIPE).decodings[0])
    two = dataclasses.replace(one, image_hashes=("a", "b"), labels=(ImageLabel(name="cat.png"),) * 2)
    cases = figure_spec([two.maps()], view=View()).images
    assert [case.title for case in cases] == ["cat.png (1)", "cat.png (2)"]
    nameless = dataclasses.replace(two, labels=())
    assert [case.title for case in figure_spec([nameless.maps()], view=View()).images] == [
        "image a",
        "image b",
    ]


def test_a_decoding_keeps_its_labels_and_notes_through_json():
    decoding = dataclasses.replace(asked(made(**RECIPE).decodings[0]), notes=("altered",))
    arrays, meta = decoding.to_arrays()
    again = Decoding.from_arrays(arrays, json.loads(json.dumps(meta)))
    assert again.labels == decoding.labels
    assert again.notes == ("altered",)
    older = {key: value for key, value in meta.items() if key not in ("labels", "notes")}
    assert Decoding.from_arrays(arrays, older).labels == ()
