"""Rows of one model, under two lenses or twice the same, are told apart wherever they are named."""

import dataclasses

import pytest

from emma_viz.errors import InputError
from emma_viz.maps.decoding import Decoding
from emma_viz.render.footer import provenance, warnings
from emma_viz.render.sidecar import from_json, to_json
from emma_viz.render.words import distinct, shorten_apart
from emma_viz.session import Comparison, View
from emma_viz.session.payload import payload
from emma_viz.session.row_names import row_names
from tests.apps.test_one_colour import made

RECIPE = {"seed": 1, "tone": 90, "look": "noise", "errors": (0.1, 0.3), "gaps": False}


def two_lenses() -> tuple[Decoding, Decoding]:
    """One model under two lenses."""
    one, other = made(**RECIPE).decodings
    native = dataclasses.replace(one.lens, kind="native")
    return one, dataclasses.replace(other, model=one.model, lens=native)


def test_a_figure_of_one_model_under_two_lenses_says_which_row_has_which():
    pair = two_lenses()
    assert row_names(pair) == ("first, ridge", "first, native")
    spec = Comparison(decodings=pair).spec(View(difference=True))
    said = dict(provenance(spec))
    for name, decoding in zip(row_names(pair), pair, strict=True):
        assert f"{name}: {decoding.lens.describe()}" in said["Lens"]
        assert f"{name} (" in said["Models"]
    assert said["Difference"] == "map of first, ridge minus map of first, native, raw values"
    (case,) = spec.images
    weak = dataclasses.replace(case.models[1], marked=case.models[1].layers[:1])
    marked = dataclasses.replace(case, models=(case.models[0], weak))
    (warning,) = warnings(dataclasses.replace(spec, images=(marked,)))
    assert "draws of first, native at" in warning


def test_the_canvas_calls_rows_as_the_figure_does():
    pair = two_lenses()
    comparison = Comparison(decodings=pair)
    assert [each["name"] for each in payload(comparison)["models"]] == list(row_names(pair))


def test_what_is_alike_in_everything_is_numbered():
    one, _ = made(**RECIPE).decodings
    assert row_names((one, one)) == ("first (1)", "first (2)")
    assert distinct(("a", "a", "a (1)")) == ("a (1) (1)", "a (2)", "a (1) (2)")


def test_a_figure_with_rows_of_one_name_is_refused_and_an_old_recipe_of_one_is_read():
    spec = Comparison(decodings=two_lenses()).spec()
    (case,) = spec.images
    first, second = (dataclasses.replace(model, name="cobra") for model in case.models)
    with pytest.raises(InputError, match="different names"):
        dataclasses.replace(case, models=(first, second))
    old = to_json(spec).replace('"first, native"', '"first, ridge"')
    names = [model.name for model in from_json(old).images[0].models]
    assert names == ["first, ridge (1)", "first, ridge (2)"]


def test_names_that_their_ends_tell_apart_are_cut_at_their_starts():
    def cut(text: str) -> str:
        return text if len(text) <= 6 else text[:5] + "…"

    assert shorten_apart(["cobra, ridge", "cobra, native"], cut) == ["…ridge", "…ative"]
    assert shorten_apart(["cobra, ridge", "emma"], cut) == ["cobra…", "emma"]


def test_curves_of_several_models_and_lenses_keep_the_lens_in_their_names():
    names = [
        f"{model}, {lens}" for model in ("cobra-pocket", "emma-v1-pocket") for lens in ("ridge", "tuned")
    ]

    def cut(text):
        return text if len(text) <= 17 else text[:16] + "…"

    assert shorten_apart(names, cut) == [
        "cobra-poc…, ridge",
        "cobra-poc…, tuned",
        "emma-v1-p…, ridge",
        "emma-v1-p…, tuned",
    ]
    alike = [f"{model}, {lens}" for model in ("a-model-one", "a-model-two") for lens in ("ridge", "tuned")]
    assert len(set(shorten_apart(["b", *alike], cut))) == 5
