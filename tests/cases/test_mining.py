import pytest

from emma_viz.cases.case import KNOCK_OUT, KNOCKED_OUT, PRESENCE, CaseAnswer, CaseRecord, MeasuredEvidence
from emma_viz.cases.mining import MINING_RULES, mined
from emma_viz.errors import InputError


def answer(model, said, p_yes=None):
    logs = {} if p_yes is None else {"p_yes": p_yes, "p_no": 1 - p_yes}
    return CaseAnswer(model=model, text=said, said=said, **logs)


def found(*answers, truth="yes", evidence=()):
    return CaseRecord(
        image="0" * 64, prompt="Is there a cup?", truth=truth, answers=answers, evidence=tuple(evidence)
    )


def test_models_disagree_only_in_what_was_read():
    assert mined(found(answer("a", "yes"), answer("b", "no"))) == {"models-disagree": ("a", "b")}
    assert not mined(found(answer("a", "yes"), answer("b", "unparsed")))
    assert not mined(found(answer("a", "no"), answer("b", "no")))


@pytest.mark.parametrize(
    ("p_yes", "truth", "wrong"), [(0.05, "yes", True), (0.2, "yes", False), (0.05, "no", False)]
)
def test_confident_and_wrong(p_yes, truth, wrong):
    assert ("confident-and-wrong" in mined(found(answer("a", "no", p_yes), truth=truth))) is wrong


@pytest.mark.parametrize(
    ("without", "control", "flips"),
    [(-1.0, 0.5, True), (-1.0, 9.0, False), (0.5, 0.1, False), (-1.0, None, False)],
)
def test_a_flip_must_beat_its_control(without, control, flips):
    asked = answer("a", "yes", 0.8)
    change = abs(without - asked.log_odds)
    evidence = [
        MeasuredEvidence(name=KNOCKED_OUT, model="a", layer=-1, value=without),
        MeasuredEvidence(name=KNOCK_OUT, model="a", layer=-1, value=change, control=control),
    ]
    assert ("flips-with-region" in mined(found(asked, evidence=evidence))) is flips
    assert "flips-with-region" not in mined(found(asked, evidence=evidence[:1]))
    assert "flips-with-region" not in mined(found(asked, evidence=evidence[1:]))


@pytest.mark.parametrize(
    ("value", "said", "rule"),
    [
        (0.9, "yes", "saw-and-said"),
        (0.9, "no", "saw-and-did-not-say"),
        (0.5, "yes", "did-not-see-and-said"),
        (0.1, "no", "did-not-see-and-did-not-say"),
    ],
)
def test_a_quadrant_is_read_at_the_deepest_layer(value, said, rule):
    probes = [
        MeasuredEvidence(name=PRESENCE, model="a", layer=layer, value=at, control=0.5)
        for layer, at in ((7, value), (2, 1.0 - value))
    ]
    assert list(mined(found(answer("a", said), evidence=probes))) == [rule]
    assert not mined(found(answer("b", said), evidence=probes))


def test_one_right_and_one_wrong_is_about_whatever_was_asked():
    given = [CaseAnswer(model=name, text=name, right=right) for name, right in (("a", True), ("b", False))]
    assert mined(found(*given, truth="red")) == {"one-right-one-wrong": ("a", "b")}
    assert not mined(found(given[0], CaseAnswer(model="c", text="?"), truth="red"))


def test_a_description_that_makes_something_up():
    assert mined(found(CaseAnswer(model="a", text="A dog.", made_up=("dog",)))) == {"makes-up": ("a",)}


def test_every_rule_is_one_sentence():
    assert all(
        rule.statement.endswith(".") and rule.statement.count(". ") == 0 for rule in MINING_RULES.values()
    )


def test_an_identity_is_that_of_the_question():
    assert found(answer("a", "yes")).identity == found(answer("b", "no")).identity
    assert found().identity != CaseRecord(image="1" * 64, prompt="Is there a cup?", truth="yes").identity


@pytest.mark.parametrize(("yes", "no"), [(1.1, 0.0), (0.1, None), (float("nan"), 0.1)])
def test_probabilities_are_two_and_in_their_range(yes, no):
    with pytest.raises(InputError, match=r"p_yes|two probabilities"):
        CaseAnswer(model="a", text="", said="no", p_yes=yes, p_no=no)


def test_probabilities_that_vanish_say_nothing():
    assert CaseAnswer(model="a", text="", said="yes", p_yes=0.0, p_no=0.0).confidence is None
    assert CaseAnswer(model="a", text="", said="yes", p_yes=0.2, p_no=0.0).confidence == 1.0
    assert CaseAnswer(model="a", text="", said="yes", p_yes=0.2, p_no=0.0).log_odds is None


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_a_database_cannot_keep_is_refused(text):
    with pytest.raises(InputError, match=r"character zero|surrogates"):
        CaseRecord(prompt=text)
