"""Each scorer reads answers as the published code does: against re-implementations written apart from ours."""

import re

import pytest

from emma_viz.errors import InputError
from emma_viz.records.benchmarks import BenchmarkRecord
from emma_viz.records.scorers import SCORERS, Answer, disagreements, scorer

ANSWERS = (
    "yes",
    "No, there is no dining table in the image.",
    "Yes",
    "no",
    "Yes, it is.",
    "Not visible.",
    "yes.",
    "I cannot tell.",
    "No",
    "maybe",
    "",
    "YES",
)
TRUTHS = ("yes", "no") * 6
MORE = (
    "It isn't there. No.",
    "NO",
    "know",
    "yes/no",
    "Yes-ish, 1,000",
    "yesterday",
    "there are not any, yes",
    "\n no \n",
)


def official(text):
    if text.find(".") != -1:
        text = text.split(".")[0]
    words = text.replace(",", "").split(" ")
    return "no" if "No" in words or "not" in words or "no" in words else "yes"


def opera(text):
    for sign in ".,":
        text = text.replace(sign, "")
    words = text.split(" ")
    if any(word in ["No", "not", "no", "NO"] for word in words) or any(
        word.endswith("n't") for word in words
    ):
        return "no"
    return "yes"


def lmms(text):
    found = text.lower().strip()
    return found if found in ("yes", "no") else None


def vlmevalkit(text):
    given = out = text.lower()
    for sign in [
        ";",
        r"/",
        "[",
        "]",
        '"',
        "{",
        "}",
        "(",
        ")",
        "=",
        "+",
        "\\",
        "_",
        "-",
        ">",
        "<",
        "@",
        "`",
        ",",
        "?",
        "!",
    ]:
        if (sign + " " in given or " " + sign in given) or (re.search(r"(\d)(\,)(\d)", given) is not None):
            out = out.replace(sign, "")
        else:
            out = out.replace(sign, " ")
    words = re.sub(r"(?!<=\d)(\.)(?!\d)", "", out, count=32).split()
    if "yes" in words and "no" not in words:
        return "yes"
    if "yes" not in words and "no" in words:
        return "no"
    return None


def mme(text):
    text = text.lower()
    if text in ["yes", "no"]:
        return text
    if "yes" in text[:4]:
        return "yes"
    return "no" if "no" in text[:4] else None


def lmms_mme(text):
    text = text.lower().strip().replace(".", "")
    if len(text) == 1:
        return {"y": "yes", "n": "no"}.get(text)
    return mme(text)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("pope", official),
        ("opera", opera),
        ("lmms-eval", lmms),
        ("vlmevalkit", vlmevalkit),
        ("mme", mme),
        ("lmms-mme", lmms_mme),
    ],
)
def test_readings_are_those_of_the_published_code(name, other):
    for text in (*ANSWERS, *MORE, "y", "N.", "n", " Y ", "x", "."):
        assert scorer(name).reads(Answer(text=text)) == other(text), text


def record(number, truth, **changes):
    given = {"benchmark": "pope", "split": "a", "asked": "yes-no", "question": "?", "image": "a.jpg"}
    return BenchmarkRecord(**given | {"id": str(number), "truth": truth} | changes)


@pytest.mark.parametrize(("name", "right"), [("pope", 7), ("opera", 7), ("lmms-eval", 3), ("vlmevalkit", 6)])
def test_published_scorers_count_the_same_twelve_answers_differently(name, right):
    rows = [
        (record(i, truth), Answer(text=text))
        for i, (text, truth) in enumerate(zip(ANSWERS, TRUTHS, strict=True))
    ]
    assert sum(scorer(name).right(*row) for row in rows) == right


def test_rows_on_which_scorers_disagree_are_listed():
    rows = [(record(i, "yes"), Answer(text=text)) for i, text in enumerate(("yes", "Not visible.", "Yes."))]
    found = disagreements(rows, ("pope", "opera", "lmms-eval", "cobra"))
    assert [each.text for each in found] == ["Not visible.", "Yes."]
    assert dict(found[0].verdicts) == {"pope": "yes", "opera": "yes", "lmms-eval": None}


def test_cobra_reads_the_likelier_first_token():
    reads = scorer("cobra").reads
    assert reads(Answer(text="No.", p_yes=0.3, p_no=0.2)) == "yes"
    assert reads(Answer(text="Yes.", p_yes=0.1, p_no=0.2)) == "no"
    assert reads(Answer(text="Yes.")) is None
    assert reads(Answer(text="Yes.", p_yes=0.0, p_no=0.0)) is None
    assert Answer(text="", p_yes=0.3, p_no=0.1).leaning == pytest.approx(0.75)


def test_hallusionbench_forgives_an_unclear_answer_where_there_was_no_figure():
    unclear, rule = Answer(text="It depends."), scorer("hallusionbench-rule")
    assert rule.right(record(1, "yes", image=None, split="VS"), unclear)
    assert not rule.right(record(1, "yes", split="VS"), unclear)
    assert not rule.right(record(1, "yes", image=None, split="VS"), Answer(text="No."))
    assert not scorer("vlmevalkit").right(record(1, "yes", image=None, split="VS"), unclear)


def test_short_answers_are_compared_but_for_case_and_full_stops():
    short = record(1, "top left", asked="short")
    assert scorer("first-word").right(short, Answer(text=" Top  left. "))
    assert not scorer("first-word").right(short, Answer(text="left"))


def test_scorers_are_chosen_by_name():
    with pytest.raises(InputError, match="choose among first-word"):
        scorer("gpt")
    assert all(each.title for each in SCORERS.values())
