"""What does not beat its controls is marked in every form of a figure, without colour alone."""

import dataclasses

import pytest

from emma_viz.errors import InputError
from emma_viz.render import draw, page
from emma_viz.render.sidecar import from_json, to_json

WORDS = "† does not beat a lens that sees no state, at layer 8; beats it at layer 4"


@pytest.fixture(scope="module", params=["default", "paper"])
def spec(request, make):
    """Of two models, the second is marked at layer 8."""
    plain = make.spec(layers=(4, 8), figure={"style": request.param})
    (case,) = plain.images
    weak = dataclasses.replace(case.models[1], marked=(8,), controls=WORDS)
    return dataclasses.replace(plain, images=(dataclasses.replace(case, models=(case.models[0], weak)),))


def dashed(figure) -> set[str]:
    return {
        axes.get_label().split("/", 2)[2]
        for axes in figure.axes
        if any(patch.get_gid() == "weak" and patch.get_linestyle() != "solid" for patch in axes.patches)
    }


def test_a_drawing_marks_the_layer_with_a_sign_a_frame_and_words(spec):
    figure = draw(spec)
    written = [text.get_text() for text in figure.texts]
    assert written.count("layer 8 †") == 1
    assert written.count("layer 8") == 1, "the first model's"
    assert dashed(figure) == {f"{spec.images[0].models[1].name}/8"}
    said = " ".join(written)
    assert "at layer 8 (†, dashed) does not beat its controls; see Controls." in said
    assert WORDS in said
    assert "not recorded" in said, "of the first model"


def test_a_page_marks_the_same(spec):
    text = page(spec)
    name = spec.images[0].models[1].name
    assert text.count('<span class="head">layer 8 †</span>') == 1
    assert text.count('class="panel weak"') == (2 if spec.style == "paper" else 3)
    assert f"map, {name}, layer 8, does not beat its controls" in text
    assert WORDS in text


def test_a_difference_of_a_marked_layer_is_marked(spec):
    both = dataclasses.replace(spec, difference=True)
    figure = draw(both)
    written = [text.get_text() for text in figure.texts]
    assert written.count("layer 8 †") == 2
    assert {label.rsplit("/", 1)[-1] for label in dashed(figure)} == {"8"}
    assert len(dashed(figure)) == 2
    text = page(both)
    assert text.count("made of a map that does not beat its controls") == 1
    assert "difference of the maps, layer 8 †, made of" in text


def test_the_sidecar_says_it(spec):
    back = from_json(to_json(spec))
    assert [(model.marked, model.controls) for model in back.images[0].models] == [((), ""), ((8,), WORDS)]


def test_a_mark_at_a_layer_that_is_not_shown_is_refused(make):
    (case,) = make.spec(layers=(4, 8)).images
    with pytest.raises(InputError, match="marks at layers that are shown"):
        dataclasses.replace(case.models[0], marked=(5,))
