"""The evidence for a word, below the models of every picture."""

import dataclasses

import numpy as np
import pytest

from emma_viz.errors import InputError
from emma_viz.maps.scale import evidence_scale
from emma_viz.render import draw
from emma_viz.render.colours import paint
from emma_viz.render.figures.map_rows import evidence_said
from emma_viz.render.sidecar import from_json, to_json
from emma_viz.render.web.html import page
from tests.render.test_figure import panels, picture, words
from tests.render.test_html import Reader, floats
from tests.render.test_spec import same


def test_a_scale_that_a_person_can_judge():
    tiny = evidence_scale([np.array([1e-5, -2e-6]), np.array([0.0])], [-0.0015, -1.0])
    assert tiny.negligible
    assert evidence_said(tiny).startswith("negligible: at most 1e−05 nats")
    assert tiny.limit >= 0.05  # 1e-5 nats are drawn pale
    strong = evidence_scale([np.array([0.001]), np.array([2, -0.1])], [-9.0, -4.0])
    assert not strong.negligible
    assert evidence_said(strong) == "at most 2 nats for a token, 50 % of the word's log-probability"
    assert evidence_scale([np.array([0.02])], [-8.0]).negligible  # less than 1 % of what the word has
    unknown = evidence_scale([np.array([np.nan])], [None])
    assert unknown.negligible
    assert unknown.share is None


@pytest.mark.parametrize("style", ["default", "paper"])
def test_the_evidence_is_drawn_on_its_own_scale_under_both_models(make, style):
    spec = make.spec(evidence=1.0, figure={"style": style})
    figure = draw(spec)
    case = spec.images[0]
    shown = panels(figure, "evidence/")
    scale = evidence_scale([m.evidence for m in case.models], [m.score for m in case.models])
    assert len(shown) == 2
    for axes, model in zip(shown, case.models, strict=True):
        expected = paint(model.evidence, (-scale.limit, scale.limit), "RdBu")
        np.testing.assert_array_equal(picture(axes).get_array(), expected)
    said = words(figure)
    assert "“cup” of" in said
    assert "log p −2" in said


def test_the_page_paints_the_same_values_on_the_same_scale(make):
    spec = make.spec(evidence=1.0, figure={"difference": True})
    reader = Reader(page(spec))
    scopes = reader.data["images"][0]["scopes"]
    assert len(scopes) == 1 + 2 + 1 + 2
    limits = {tuple(scope["maps"][0]["limits"]) for scope in scopes[4:]}
    assert len(limits) == 1
    for number, model in enumerate(spec.images[0].models, start=4):
        np.testing.assert_array_equal(floats(scopes[number]["maps"][0]["values"]), model.evidence.ravel())
        places = [attrs for _, attrs in reader.elements if attrs.get("data-scope") == str(number)]
        assert len(places) == 1
    assert "negligible" not in reader.text
    assert "negligible" in Reader(page(make.spec(evidence=1e-4))).text


def test_a_recipe_keeps_the_evidence(make):
    spec = make.spec(evidence=1.0)
    assert same(from_json(to_json(spec)), spec)


def test_evidence_is_of_every_model_or_of_none(make):
    case = make.spec(evidence=1.0).images[0]
    with pytest.raises(InputError, match="evidence of every model"):
        dataclasses.replace(case, word=None)
    bare = dataclasses.replace(case.models[0], evidence=None)
    with pytest.raises(InputError, match="evidence of 1 of 2 models"):
        dataclasses.replace(case, models=(bare, case.models[1]))
    with pytest.raises(InputError, match="log-probability"):
        dataclasses.replace(case.models[0], score=float("nan"))
