"""The casebook in a browser, on SQLite and on PostgreSQL: filter, open, scrub, judge, find it again, undo."""

import re
from pathlib import Path

import pytest

from emma_viz.cases.case import CaseAnswer, CaseRecord
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.exchange import bundled_cases, import_cases
from emma_viz.cases.pictures import case_picture
from tests.apps.axe import violations
from tests.apps.casebook.casebook_server import serving_casebook
from tests.apps.visiting import RUN_PATIENCE, Visit, serving
from tests.cases.conftest import address as database  # noqa: F401 (a fixture)
from tests.cases.conftest import postgres  # noqa: F401 (a fixture)

pytestmark = pytest.mark.slow

EVIL = 'Is there a <img src="https://example.org/a.png"> ![x](https://example.org/b.png) cup?'
NOT_FOUND = "_stcore/"
"""Streamlit looks for its server below the page's own path first."""


def answer(model: str, said: str, truth: str) -> CaseAnswer:
    p_yes = 0.95 if said == "yes" else 0.03
    return CaseAnswer(
        model=model, text=said.title() + ".", said=said, right=said == truth, p_yes=p_yes, p_no=0.98 - p_yes
    )


@pytest.fixture
def filled(database, coffee):  # noqa: F811 (the fixture)
    """The address of a casebook with three questions about the coffee."""
    return fill(database, coffee)


def fill(database: str, coffee) -> str:  # noqa: F811
    with Casebook.open(database) as book:
        picture = case_picture(coffee)
        book.keep_picture(picture)
        book.add(
            [
                CaseRecord(
                    image=picture.hash,
                    image_name="coffee.png",
                    prompt=prompt,
                    truth=truth,
                    benchmark="tabletop",
                    split="random",
                    row=str(number),
                    object="cup",
                    box=(100, 40, 420, 330),
                    answers=(answer("cobra-pocket", first, truth), answer("emma-v1-pocket", second, truth)),
                )
                for number, (prompt, truth, first, second) in enumerate(
                    [
                        (EVIL, "yes", "yes", "no"),
                        ("Is there a dog?", "no", "yes", "no"),
                        ("Is it a cat?", "no", "no", "no"),
                    ]
                )
            ]
        )
    return database


def opened(browser, address: str, path: str = "") -> Visit:
    visit = Visit(browser, address)
    visit.page.goto(address + path)
    return visit


BEYOND = """() => {
  const main = document.querySelector("[data-testid=stMain]");
  return main.scrollWidth - main.clientWidth;
}"""
SETTLED = """() => {
  const app = document.querySelector("[data-testid=stApp]");
  const coming = "[data-stale=true], [data-testid=stSkeleton], [data-testid=stAppSkeleton]";
  return app?.dataset.testScriptState === "notRunning" && !app.querySelector(coming);
}"""


def settled(page):
    """The page, when the script behind it has ended and all of it stands: what is pressed before may be made anew."""
    page.wait_for_function(SETTLED)
    return page


def press(page, name: str) -> None:
    settled(page).get_by_role("button", name=name).click()


def saved(page, name: str) -> Path:
    """What a link saves."""
    with page.expect_download() as found:
        page.get_by_role("link", name=name).click()
    return Path(found.value.path())


def left(visit: Visit) -> None:
    visit.context.close()
    wrong = [each for each in visit.wrong if NOT_FOUND not in each and not each.startswith("outside: ws")]
    assert not wrong, wrong


def test_a_case_is_found_opened_judged_and_found_again(browser, filled):
    with serving_casebook(filled) as (address, _):
        visit = opened(browser, address)
        page, frames = visit.page, []
        page.on("websocket", lambda found: found.on("framesent", lambda sent: frames.append(sent)))
        page.locator(".cb-card").nth(1).wait_for()
        assert page.locator(".cb-card").count() == 2  # what a rule found
        assert page.locator(".cb-card img[src^='http']").count() == 0
        settled(page).get_by_label("Words").fill("dog")
        page.get_by_label("Words").press("Enter")
        page.wait_for_url(re.compile("text=dog"))
        page.wait_for_function("document.querySelectorAll('.cb-card').length === 1")
        page.evaluate("window.stays = true")
        settled(page).get_by_role("link", name="Open the case").click()
        page.get_by_role("heading", name="Is there a dog?").wait_for()
        settled(page).go_back()
        page.get_by_role("heading", name="Cases").wait_for()
        assert "text=dog" in page.url
        settled(page).go_forward()
        page.get_by_role("heading", name="Is there a dog?").wait_for()
        assert page.evaluate("window.stays")  # nothing was loaded anew
        page.wait_for_selector(".ev[data-state=result]", timeout=RUN_PATIENCE)

        page.get_by_role("button", name="Write").wait_for()
        settled(page).wait_for_load_state("networkidle")
        count, steps = len(frames), visit.canvas("emma.result.models[0].layers.length")
        requests = len(visit.requests)
        pictures = set()
        for step in range(steps):
            page.locator(".ev-slider").fill(str(step))
            pictures.add(visit.picture("map"))
        assert len(pictures) == steps
        assert len(frames) == count  # not one word to the server
        asked = [url for url in visit.requests[requests:] if url.startswith("http")]
        # Chromium asks for the icon again when the address changes.
        assert [url for url in asked if not url.endswith("/favicon.png")] == []

        settled(page).keyboard.press("1")
        page.get_by_text("verdict hallucination").wait_for()
        settled(page).get_by_role("textbox", name="Note").fill("It names a dog.")
        press(page, "Write")
        page.locator(".cb-note", has_text="It names a dog.").wait_for()
        page.reload()
        page.locator(".cb-note", has_text="It names a dog.").wait_for()
        press(page, "Undo (u)")
        page.locator(".cb-note").wait_for(state="detached")
        with Casebook.open(filled) as book:
            (id,) = [each for each in book.ids() if book.case(each).record.prompt == "Is there a dog?"]
            assert book.case(id).review.verdict == "hallucination"
            assert len(book.case(id).history) == 3

            settled(page)
            book.write(id, "verdict", "label", author="somebody else")  # while the page shows another version
            press(page, "unclear (5)")
            page.locator(".cb-warn", has_text="somebody else").wait_for()
            assert book.case(id).review.verdict == "label"
        # At once, while the script still runs: the document does not hang on it.
        assert saved(page, "Save this case as PDF").read_bytes().startswith(b"%PDF")
        assert "EmmaCanvas.open" in saved(page, "Save this case as HTML").read_text("utf-8")

        press(page, "Hold to compare")
        page.get_by_role("button", name="Let go of the held case").wait_for()
        page.goto(address + f"case?id={next(each for each in book_ids(filled) if each != id)}")
        page.get_by_role("button", name="Hold to compare").wait_for()  # another visit holds nothing
        page.goto(address + f"pair?id={id}&other={next(each for each in book_ids(filled) if each != id)}")
        page.get_by_role("heading", name="Two cases").wait_for()
        page.get_by_role("heading", name="Is there a dog?").wait_for()
        left(visit)


def book_ids(where: str) -> list[str]:
    with Casebook.open(where) as book:
        return book.ids()


def test_what_is_wrong_is_a_sentence_on_the_page(browser, filled):
    with serving_casebook(filled) as (address, _):
        visit = opened(browser, address, "case?id=nobody")
        visit.page.locator(".cb-trouble", has_text="there is no case 'nobody'").wait_for()
        visit.page.goto(address + "?sort=random")
        visit.page.locator(".cb-trouble", has_text="expected one of the orders").wait_for()
        left(visit)


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1024)])
def test_no_page_shuts_people_out_or_is_wider_than_its_window(browser, tmp_path, scheme, width):
    where = str(tmp_path / "cases.db")
    with Casebook.open(where) as book:
        import_cases(book, bundled_cases())
    one, other = book_ids(where)[:2]
    with serving_casebook(where) as (address, _):
        visit = Visit(browser, address, width=width, color_scheme=scheme)
        for path in ("", "figures?all=yes", f"case?id={one}", f"pair?id={one}&other={other}"):
            visit.page.goto(address + path)
            settled(visit.page)
            if path.startswith("case"):
                visit.page.wait_for_selector(".ev[data-state=result]", timeout=RUN_PATIENCE)
            assert violations(visit, "wcag2a", "wcag2aa") == [], path
            assert visit.page.evaluate(BEYOND) <= 0, path
            visit.page.set_viewport_size({"width": width, "height": 900})
        left(visit)


def test_a_case_opens_in_the_explorer(browser, tmp_path, coffee):
    where = fill(str(tmp_path / "cases.db"), coffee)
    with (
        serving("--casebook", where) as (explorer, _),
        serving_casebook(where, "--explorer", explorer) as (address, _),
    ):
        visit = opened(browser, address, f"case?id={book_ids(where)[1]}")
        with visit.context.expect_page() as other:
            settled(visit.page).get_by_role("link", name="Open in the explorer").click()
        page = other.value
        page.wait_for_selector(".ev[data-state=result]", timeout=RUN_PATIENCE)
        assert page.get_by_label("Prompt").input_value() == "Is there a dog?"
        assert page.locator(".ev").evaluate("frame => frame.emma.result.models.map(each => each.name)") == [
            "cobra-pocket",
            "emma-v1-pocket",
        ]
        left(visit)
