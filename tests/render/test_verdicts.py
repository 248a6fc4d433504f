"""Whether a word's evidence names tokens that matter: said and marked in every kind of picture."""

import dataclasses
from html import unescape

import pytest

from emma_viz.errors import InputError
from emma_viz.render import draw
from emma_viz.render.film import frames
from emma_viz.render.footer import warnings
from emma_viz.render.sidecar import from_json, to_json
from emma_viz.render.web.html import page

BEATS, FAILS = "beats 39 random sets", "does not beat 39 random sets"
KINDS = ("default", "paper", "page", "film", "redrawn")


def judged(make, *verdicts: tuple[str, bool | None]):
    """A figure with the evidence of a model for each verdict."""
    spec = make.spec(evidence=1.0, models=len(verdicts))
    (case,) = spec.images
    models = tuple(
        dataclasses.replace(model, judged=said, beats=beats)
        for model, (said, beats) in zip(case.models, verdicts, strict=True)
    )
    return dataclasses.replace(spec, images=(dataclasses.replace(case, models=models),))


def shown(spec, kind: str) -> tuple[str, int]:
    """The words of a picture, and how many maps of evidence it marks."""
    if kind == "page":
        text = page(spec)
        return unescape(text), text.count('class="panel weak"')
    drawn = {"paper": dataclasses.replace(spec, style="paper"), "film": frames(spec)[0]}.get(kind, spec)
    figure = draw(from_json(to_json(drawn)) if kind == "redrawn" else drawn)
    weak = [
        axes
        for axes in figure.axes
        if axes.get_label().startswith("evidence/") and any(p.get_gid() == "weak" for p in axes.patches)
    ]
    return " ".join(text.get_text() for text in figure.texts), len(weak)


@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_says_what_the_evidence_was_judged(make, kind):
    spec = judged(make, (BEATS, True), (FAILS, False), ("", None))
    words, weak = shown(spec, kind)
    first, second, *_ = (model.name for model in spec.images[0].models)
    assert weak == 2
    assert f"{second} †" in words
    assert f"{first} †" not in words
    for said in (BEATS, FAILS, "not judged"):
        assert said in words


def test_what_does_not_beat_random_sets_is_warned_of(make):
    assert not warnings(judged(make, (BEATS, True)))
    (warning,) = warnings(judged(make, (FAILS, False)))
    assert warning.endswith(f"(†, dashed): {FAILS}.")
    assert [text.rsplit(": ", 1)[1] for text in warnings(judged(make, ("", None)))] == ["not judged."]


def test_a_verdict_is_about_evidence(make):
    model = make.case().models[0]
    with pytest.raises(InputError, match="without evidence"):
        dataclasses.replace(model, judged=FAILS, beats=False)
