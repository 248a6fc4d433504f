"""The pages' logic, without a browser: Streamlit's own AppTest runs the script."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from apps.casebook import server
from apps.casebook.told import CASEBOOK_PLACE
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
    choices["Split"].select("popular").run()
    assert "7 of 14" in html(app)
    assert app.query_params["split"] == "popular"
    app.text_input[0].set_value("cup 9").run()
    assert "1 of 14" in html(app)
    assert app.query_params["text"] == "cup 9"


def test_an_address_is_a_permalink(casebook):
    assert "7 of 14" in html(run(model="a", answer="wrong"))
    assert "No case passes this filter" in html(run(tag="none such"))
    assert "expected one of the orders" in html(run(sort="random"))


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


def test_a_newer_casebook_is_a_sentence(casebook, tmp_path):
    with sqlite3.connect(tmp_path / "cases.db") as connection:
        connection.execute("UPDATE casebook_version SET version_num = '9999'")
    connection.close()
    assert "newer version of emma_viz" in html(run())
