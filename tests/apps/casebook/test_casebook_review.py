"""A review in a browser, on SQLite and on PostgreSQL: the keys, and two people at one case."""

import shutil

import pytest

from emma_viz.cases.casebook import Casebook
from tests.apps.casebook.casebook_server import serving_casebook
from tests.apps.casebook.test_casebook_browser import book_ids, filled, left, opened, press, settled  # noqa: F401
from tests.apps.visiting import CHROMIUM, FLAGS
from tests.cases.conftest import address as database  # noqa: F401 (a fixture)
from tests.cases.conftest import postgres  # noqa: F401 (a fixture)

pytestmark = pytest.mark.slow


def stands(page, place: str):
    """The page, when a case is drawn whole: its place among those of the filter, as "2 of 3"."""
    page.locator(".cb-head", has_text=place).wait_for()
    return settled(page)


def write_note(page, text: str) -> None:
    settled(page).get_by_role("textbox", name="Note").fill(text)
    press(page, "Write")
    page.locator(".cb-note", has_text=text).wait_for()


def test_keys_turn_the_page_judge_and_take_back(browser, filled):  # noqa: F811 (the fixture)
    with serving_casebook(filled) as (address, _):
        visit = opened(browser, address, "case?all=yes")
        page = visit.page
        stands(page, "1 of 3").keyboard.press("n")
        stands(page, "2 of 3").keyboard.press("n")
        stands(page, "3 of 3").keyboard.press("p")
        stands(page, "2 of 3").keyboard.press("2")
        page.get_by_text("verdict miss").wait_for()
        settled(page).keyboard.press("u")
        page.locator(".cb-undone", has_text="verdict miss").wait_for()
        # What is typed is no key of the review.
        settled(page).get_by_role("textbox", name="Note").press_sequentially("nup 1")
        press(page, "Write")
        page.locator(".cb-note", has_text="nup 1").wait_for()
        stands(page, "2 of 3")
        left(visit)
    with Casebook.open(filled) as book:
        found = book.case(book.ids()[1])
        assert [each.kind for each in found.history] == ["verdict", "undo", "note"]
        assert found.review.verdict == ""


def test_two_browsers_at_one_case_lose_nothing_and_say_so(browser, filled):  # noqa: F811 (the fixture)
    chromium = next(path for name in CHROMIUM if (path := shutil.which(name)))
    id = book_ids(filled)[0]
    other = browser.browser_type.launch(executable_path=chromium, args=FLAGS)
    try:
        with serving_casebook(filled) as (address, _):
            visits = [opened(each, address, f"case?id={id}&all=yes") for each in (browser, other)]
            for visit, name in zip(visits, ("Ada", "Bob"), strict=True):
                stands(visit.page, "1 of 3")
                visit.page.get_by_role("textbox", name="Your name").fill(name)
                visit.page.get_by_role("textbox", name="Your name").press("Enter")
            ada, bob = (settled(visit.page) for visit in visits)
            press(ada, "hallucination (1)")
            ada.get_by_text("verdict hallucination").wait_for()
            press(bob, "label (4)")  # over a page that does not show Ada's
            bob.locator(".cb-warn", has_text="Ada").wait_for()
            bob.get_by_text("verdict hallucination").wait_for()  # which it shows now
            write_note(ada, "The handle is hidden.")
            write_note(bob, "It is a bowl.")  # notes stand side by side
            bob.locator(".cb-note", has_text="The handle is hidden.").wait_for()
            ada.reload()
            ada.locator(".cb-note", has_text="It is a bowl.").wait_for()
            for visit in visits:
                left(visit)
    finally:
        other.close()
    with Casebook.open(filled) as book:
        found = book.case(id)
    assert [(each.author, each.kind, each.value) for each in found.history] == [
        ("Ada", "verdict", "hallucination"),
        ("Ada", "note", "The handle is hidden."),
        ("Bob", "note", "It is a bowl."),
    ]
