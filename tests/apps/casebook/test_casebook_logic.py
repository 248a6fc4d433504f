"""The pages' logic, without a browser: Streamlit's own AppTest runs the script."""

import sqlite3
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from apps.casebook import server
from apps.casebook.told import CASEBOOK_PERSON, CASEBOOK_PLACE
from apps.casebook.views.overview import calibration_of, mistakes_by_object, right_shares, worst_objects
from emma_viz.cases import opening
from emma_viz.cases.case import CaseAnswer, CaseRecord, MeasuredEvidence
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.pictures import case_picture

PAGE = Path(server.__file__).with_name("page.py")


@pytest.fixture
def casebook(tmp_path, monkeypatch):
    monkeypatch.setenv(CASEBOOK_PLACE, str(tmp_path / "cases.db"))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    picture = case_picture(image)
    with Casebook.open(tmp_path / "cases.db") as book:
        book.keep_picture(picture)
        book.add([record(picture.hash, number) for number in range(14)])
        yield book


def record(image: str, number: int) -> CaseRecord:
    wrong = number % 2 == 0
    answers = (
        CaseAnswer(
            model="a",
            text="No.",
            said="no",
            right=not wrong,
            scorer="pope",
            p_yes=0.02,
            p_no=0.9,
            fingerprint="1",
        ),
        CaseAnswer(model="b", text="Yes.", said="yes", right=wrong, scorer="pope", p_yes=0.8, p_no=0.1),
    )
    levels = ((0, 0.2), (1, 0.9))
    evidence = tuple(
        MeasuredEvidence(name="presence", model="a", layer=layer, value=value, control=0.5)
        for layer, value in levels
    )
    return CaseRecord(
        image=image,
        image_name="a.png",
        prompt=f"Is there a cup {number}?",
        truth="yes" if wrong else "no",
        object="cup",
        benchmark="pope",
        split="random" if number < 7 else "popular",
        category=f"kind {number % 3}",
        row=str(number),
        answers=answers,
        evidence=evidence,
    )


def html(app: AppTest) -> str:
    assert not app.exception
    return "\n".join(each.proto.body for each in app.get("html"))


def turn(app: AppTest, page: str, **address: str) -> None:
    """Go to a page as by the way at the top: AppTest has that for pages that are files alone."""
    (app._page_hash,) = [
        key for key, each in app._registered_pages.items() if each.get("url_pathname") == page
    ]
    for name in list(app.query_params):
        del app.query_params[name]
    for name, value in address.items():
        app.query_params[name] = value
    app.run()


def press(app: AppTest, label: str) -> None:
    next(each for each in app.button if each.label == label).click().run()


@contextmanager
def other_writer(path: Path):
    """Another program, in the middle of writing."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.close()


def run(**address: str) -> AppTest:
    app = AppTest.from_file(str(PAGE), default_timeout=60)
    for name, value in address.items():
        app.query_params[name] = value
    return app.run()


def test_a_filter_is_in_the_address_and_shows_what_it_says(casebook):
    app = run()
    assert "14 of 14" in html(app)
    assert html(app).count('class="cb-card"') == 12
    choices = {each.label: each for each in app.selectbox}
    choices["Split"].select("random").run()
    choices["Split"].select("popular").run()  # the same widget: it is not made anew under a hand
    assert "7 of 14" in html(app)
    assert app.query_params["split"] == "popular"
    app.text_input[0].set_value("cup 9").run()
    assert "1 of 14" in html(app)
    assert app.query_params["text"] == "cup 9"


FIELDS = {
    "rule": "Why it is here",
    "sure": "Sure of it, at least",
    "benchmark": "Benchmark",
    "split": "Split",
}
FIELDS |= {"category": "Category", "object": "Object", "tag": "Tag"}
"""Name in an address → the field that it fills; those whose values a casebook may lack."""


def test_a_filter_whose_values_are_gone_can_be_taken_off(casebook, tmp_path, monkeypatch):
    monkeypatch.setenv(CASEBOOK_PLACE, str(tmp_path / "bare.db"))
    with Casebook.open(tmp_path / "bare.db") as bare:
        bare.add([CaseRecord(prompt="Is it?")])
    values = dict.fromkeys(FIELDS, "gone") | {"sure": "0.9"}
    app = run(**values, evidence="presence,a,0,,,;absence,,,,,", all="yes")
    assert "0 of 1" in html(app)
    for name, label in FIELDS.items():
        (field,) = [each for each in app.selectbox if each.label == label]
        assert field.value == values[name]
        field.select("").run()
        assert name not in app.query_params
    for label in ("And evidence", "Evidence"):
        next(each for each in app.selectbox if each.label == label).select(None).run()
    assert list(app.query_params) == ["all"]
    assert "1 of 1" in html(app)
    assert not {*FIELDS.values(), "Evidence"} & {each.label for each in app.selectbox}


def test_the_filter_goes_along_to_other_pages_and_the_case_is_found_again(casebook):
    app = run(split="popular", text="cup 9")
    turn(app, "case")
    assert app.query_params["split"] == "popular"
    id = app.query_params["id"]
    turn(app, "figures")
    assert "1 cases" in html(app)
    assert "id" not in app.query_params
    turn(app, "case")
    assert app.query_params["id"] == id


def test_several_conditions_on_evidence_are_chosen_on_the_page(casebook):
    app = run(evidence="presence,a,0,,,")
    assert "14 of 14" in html(app)
    {each.label: each for each in app.selectbox}["its control"].select(True).run()
    assert "0 of 14" in html(app)  # 0.2 is not above 0.5
    assert app.query_params["evidence"] == "presence,a,0,beats,,"
    {each.label: each for each in app.selectbox}["its control"].select(False).run()
    {each.label: each for each in app.selectbox}["And evidence"].select("presence").run()
    assert app.query_params["evidence"] == "presence,a,0,does-not,,;presence,,,,,"
    assert "14 of 14" in html(app)
    app.number_input[3].set_value(0.95).run()  # at least, of the second condition
    assert "0 of 14" in html(app)


def test_figures_count_mistakes_by_object_and_hold_them_against_how_sure_models_were(casebook):
    app = run()
    turn(app, "figures")
    assert len(app.get("plotly_chart")) == 3
    records = casebook.records()
    made_up, missed = mistakes_by_object(records)
    assert made_up == {("cup", "a"): (0, 7), ("cup", "b"): (7, 7)}
    assert missed == {("cup", "a"): (7, 7), ("cup", "b"): (0, 7)}
    assert worst_objects(made_up, missed) == ["cup"]
    curves = calibration_of(records, ["a", "b"])
    (only,) = curves["a"]
    assert only.leaning == pytest.approx(0.02 / 0.92)
    assert (only.share.value, only.share.rows) == (0.5, 14)
    assert np.isnan(only.share.low), "all ask about one image"
    apart = [replace(each, image_name=f"{number % 7}.png") for number, each in enumerate(records)]
    by_category = right_shares(apart)
    one = by_category["kind 0", "a"]
    assert (one.value, one.rows) == (pytest.approx(2 / 5), 5)
    assert one.low < one.value < one.high


def test_figures_are_drawn_where_a_truth_is_neither_yes_nor_no(casebook):
    first = casebook.records()[0]
    casebook.add(
        [replace(first, prompt="Is it?", row="odd", truth="maybe"), replace(first, row="", truth="")]
    )
    app = run()
    turn(app, "figures")
    assert "16 cases" in html(app)
    choice = next(each for each in app.selectbox if each.label.startswith("Numbers of the whole"))
    choice.select("pope").run()
    assert "<h3>" in html(app)
    assert "Left out: 2 cases that ask for yes or no and whose truth is neither." in html(app)


def test_what_cannot_be_written_is_said_and_not_lost(casebook, monkeypatch, tmp_path):
    monkeypatch.setattr(opening, "PATIENCE", 0.05)
    app = run(id=casebook.ids()[0])
    turn(app, "case")
    app.text_area[0].set_value("A long thought.")
    press(app, "Write")
    assert "Write your name first" in html(app)
    assert "Not written: A long thought." in html(app)
    app.text_input(key="author").set_value("ann").run()
    with other_writer(tmp_path / "cases.db"):
        app.text_area[0].set_value("A long thought.")
        next(each for each in app.text_input if each.label == "Tag").set_value("odd")
        press(app, "Write")
        assert "another program has been writing" in html(app)
        assert "Not written: A long thought." in html(app)
        assert "Not written: odd" in html(app)


def test_a_strangers_tag_is_no_markdown_and_is_taken_off_by_its_own_name(casebook):
    id = casebook.ids()[0]
    casebook.write(id, "tag", "![x](/a.png) [y](https://example.org) :red[z]", author="ann")
    casebook.write(id, "tag", "odd", author="ann")
    app = run(id=id)
    turn(app, "case")
    (tags,) = app.get("button_group")
    assert tags.options == [
        "\\!\\[x\\]\\(\\/a\\.png\\) \\[y\\]\\(https\\:\\/\\/example\\.org\\) \\:red\\[z\\]",
        "odd",
    ]
    app.text_input(key="author").set_value("ben").run()
    (tags,) = app.get("button_group")
    tags.select("![x](/a.png) [y](https://example.org) :red[z]").run()
    assert html(app)
    assert casebook.case(id).review.tags == ("odd",)


def test_a_tag_that_cannot_be_taken_off_stays_and_says_why(casebook):
    id = casebook.ids()[0]
    casebook.write(id, "tag", "odd", author="ann")
    app = run(id=id)
    turn(app, "case")
    app.get("button_group")[0].select("odd").run()
    assert "Write your name first" in html(app)
    app.text_input(key="author").set_value("ben").run()
    assert "Write your name first" not in html(app)
    assert casebook.case(id).review.tags == ("odd",), "it was pressed once, and that was refused"
    app.get("button_group")[0].select("odd").run()
    assert casebook.case(id).review.tags == ()


@pytest.mark.parametrize("person", ["", "the user of this machine"])
def test_a_name_that_was_given_stays_on_every_page(casebook, monkeypatch, person):
    monkeypatch.setenv(CASEBOOK_PERSON, person)
    app = run(id=casebook.ids()[0])
    turn(app, "case")
    assert app.text_input(key="author").value == person
    app.text_input(key="author").set_value("ann").run()
    turn(app, "figures")
    turn(app, "case", id=casebook.ids()[1])
    assert app.text_input(key="author").value == "ann"
    press(app, "miss (2)")
    assert [each.author for each in casebook.case(casebook.ids()[1]).history] == ["ann"]


def test_an_address_is_a_permalink(casebook):
    assert "7 of 14" in html(run(model="a", answer="wrong"))
    nothing = run(tag="none such")
    assert "No case passes this filter" in html(nothing)
    links = [each.proto for each in nothing.get("page_link")]
    assert "tag=none+such&all=yes" in next(
        each.query_string for each in links if each.label == "Show every question"
    )
    assert "expected one of the orders" in html(run(sort="random"))
    assert "which no address of a casebook has" in html(run(colour="red"))
    kept = run(measure="presence", control="beats")  # as addresses said it once
    assert "14 of 14" in html(kept)
    assert kept.query_params["evidence"] == "presence,,,beats,,"
    assert "measure" not in kept.query_params


def test_a_casebook_that_cannot_be_opened_is_a_sentence(tmp_path, monkeypatch):
    for name, content in (
        ("broken.db", b"SQLite format 3\0" + b"x" * 4096),
        ("other.txt", b"hello, I am a text"),
    ):
        (tmp_path / name).write_bytes(content)
        monkeypatch.setenv(CASEBOOK_PLACE, str(tmp_path / name))
        said = html(run())
        assert "This cannot be shown" in said
        assert name in said


def test_a_locked_casebook_is_a_sentence_and_opens_again(casebook, monkeypatch, tmp_path):
    monkeypatch.setattr(opening, "PATIENCE", 0.05)
    with other_writer(tmp_path / "cases.db"):
        assert "another program has been writing" in html(run())
    assert "14 of 14" in html(run())


def test_a_case_whose_study_is_gone_says_so(casebook):
    answer = CaseAnswer(model="c", text="No.", said="no", study="/not/there", entry="e")
    casebook.add([CaseRecord(prompt="Is it gone?", truth="yes", answers=(answer,))])
    (id,) = [each.id for each in casebook.cases(casebook.ids()) if each.record.prompt == "Is it gone?"]
    app = run()
    turn(app, "case", id=id)
    assert "Is it gone?" in html(app)
    assert "the study behind it cannot be shown" in html(app)


def test_a_held_case_is_compared_or_let_go(casebook):
    one, other = casebook.ids()[:2]
    app = run(id=one)
    turn(app, "case")
    press(app, "Hold to compare")
    press(app, "Let go of the held case")
    press(app, "Hold to compare")
    press(app, "Next (n)")
    assert "cup 1?" in html(app)
    press(app, "Compare with the held case")
    assert app.query_params["id"] == one
    assert app.query_params["other"] == other
    assert "Two cases" in html(app)


def test_a_newer_casebook_is_a_sentence(casebook, tmp_path):
    with sqlite3.connect(tmp_path / "cases.db") as connection:
        connection.execute("UPDATE casebook_version SET version_num = '9999'")
    connection.close()
    assert "newer version of emma_viz" in html(run())
