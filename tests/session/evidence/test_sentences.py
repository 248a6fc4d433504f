"""The paragraph of a case follows its numbers, and what does not beat its control is said not to."""

from dataclasses import replace

import pytest

from emma_viz.session.evidence.document import CaseCurve, CaseEvidence, CaseNumber
from emma_viz.session.evidence.sentences import sentences_of

LAYERS = (-1, 0, 1)


def curve(name, values, control=()):
    return CaseCurve(
        name=name,
        title="",
        unit="",
        layers=LAYERS,
        values=values,
        control=control,
        control_title="the control",
    )


def number(name, value, control=None):
    return CaseNumber(
        name=name, title="", unit="nats", value=value, control=control, control_title="the control"
    )


WHOLE = CaseEvidence(
    model="m",
    fingerprint="f",
    recipe="r",
    image="",
    prompt="Is there a cup?",
    object="cup",
    grid=(4, 4),
    region=(5, 6),
    region_from="mask",
    curves=(
        curve("answer", (-1.0, 2.0, 3.0)),
        curve("presence", (0.0, 5.0, 6.0), (1.0, 1.0, 1.0)),
        curve("presence area", (0.9, 0.9, 0.9), (0.5, 0.5, 0.5)),
        curve("retention", (0.6, 0.4, 0.3), (0.1, 0.1, 0.1)),
        curve("logit lens", (-9.0, -1.0, -1.0), (-3.0, -3.0, -3.0)),
    ),
    numbers=(
        number("answer difference", 3.0),
        number("image part", 2.0),
        number("text part", 0.5),
        number("bias part", 0.5),
        number("knock-out difference", -1.0),
        number("knock-out change", 4.0, 0.5),
        number("prior: mean tokens", -1.0),
        number("prior: another image", -2.0),
        number("prior: no image", -3.0),
    ),
    lacking=(),
)


def knocked_out(left):
    """That much is left of a difference of 3 nats, against a control of 0.5."""
    numbers = (number("knock-out difference", left), number("knock-out change", abs(left - 3.0), 0.5))
    return {each.name: each for each in numbers}


LOST = curve("presence", (0.0, 5.0, 0.0), (1.0, 1.0, 1.0))
FADED = curve("retention", (0.6, 0.1, -2.0), (0.1, 0.1, 0.1))


def told(**changes):
    """The paragraph with other curves or numbers in place of those of their names."""
    curves = tuple(changes.get(each.name, each) for each in WHOLE.curves)
    numbers = tuple(changes.get(each.name, each) for each in WHOLE.numbers)
    return " ".join(each.text for each in sentences_of(replace(WHOLE, curves=curves, numbers=numbers)))


@pytest.mark.parametrize(
    ("changes", "said", "not_said"),
    [
        ({}, "m leans to “yes” by 3.00 nats; the output layer reads that from layer 0 on.", "“no” by"),
        ({}, "the model saw it and said so", "did not see"),
        ({}, "more than the control (0.50), and the answer turns to “no”", "does not beat"),
        ({}, "The answer needs this image: it is “no” with mean tokens, other images and none", "does not need"),
        ({}, "better than 95 % of other words at layers 0 to 1", "At no layer"),
        ({}, "of +3.00 nats is +2.00 through image tokens, +0.50 through text tokens and +0.50 from biases", ""),
        ({"presence": LOST}, "did not see it and said so", "the model saw"),
        ({"presence": LOST}, "above its threshold at layer 0.", ""),
        ({"presence area": curve("presence area", (0.5, 0.5, 0.4), (0.5,) * 3)}, "no better than chance (0.40)", ""),
        ({"retention": FADED}, "layer 1, which does not beat the control", ""),
        ({"logit lens": curve("logit lens", (-9.0,) * 3, (-3.0,) * 3)}, "At no layer does the logit lens", "better at"),
        (knocked_out(2.8), "-0.20 nats, which does not beat the control", "turns to"),
        (knocked_out(2.0), "-1.00 nats, more than the control", "turns to “no”"),
        (knocked_out(4.0), "+1.00 nats, more than the control", "turns to “no”"),
        (
            {name: number(name, 1.0) for name in ("prior: mean tokens", "prior: another image", "prior: no image")},
            "does not need this image: it is “yes” with mean tokens, other images and none, too",
            "needs this",
        ),
        ({"prior: no image": number("prior: no image", 1.0)}, "The answer “yes” stays with no image, and turns", ""),
    ],
)  # fmt: skip
def test_a_sentence_follows_its_numbers(changes, said, not_said):
    text = told(**changes)
    assert said in text
    assert not not_said or not_said not in text


def test_sentences_without_their_numbers_are_not_written():
    bare = replace(WHOLE, curves=(), numbers=())
    assert sentences_of(bare) == ()
