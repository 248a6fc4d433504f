"""A day with the page: stopping, a model that fails, a lost connection, links in an open page, keys, what is older."""

import re

import pytest

from tests.apps.visiting import RUN_PATIENCE, Visit

pytestmark = pytest.mark.slow


def test_stop_stops_without_a_word_of_error_and_the_next_run_answers(visit):
    for _ in range(3):
        visit.example()
        visit.run_and_stop()
        visit.page.wait_for_function("document.querySelector('.ev').dataset.state !== 'busy'")
        visit.page.get_by_role("button", name="Run", exact=True).wait_for()
    visit.page.wait_for_timeout(500)
    assert visit.page.locator(".ev-error").count() == 0
    visit.run()
    assert visit.page.locator(".ev-error").count() == 0
    assert visit.page.locator(".ev-card").count() == 2


def test_a_run_right_after_a_stop_is_not_lost(visit):
    visit.example()
    for _ in range(3):
        visit.run_and_stop()
    visit.run()
    assert visit.page.locator(".ev-error").count() == 0


def test_a_connection_that_is_lost_ends_the_run_on_the_page(browser, address):
    visit = Visit(browser, address).open()
    visit.example()
    visit.press_run()
    visit.context.set_offline(True)
    for _ in range(2):  # a run that goes on, and one that is asked for in vain
        visit.page.wait_for_selector(".ev-notice:not([hidden])")
        visit.page.wait_for_selector(".ev:not([data-state=busy])")
        assert "does not answer" in visit.page.locator(".ev-notice").inner_text()
        visit.press_run()
        visit.page.wait_for_timeout(300)
    visit.page.wait_for_selector(".ev:not([data-state=busy])")
    visit.page.get_by_role("button", name="Run", exact=True).wait_for()
    visit.context.close()


def test_a_model_that_fails_leaves_the_others_results(browser, address, coffee_hash):
    visit = Visit(browser, address).open(
        f"#image={coffee_hash}&models=broken,emma-v1-pocket&prompt=What%3F&tokens=16"
    )
    visit.result()
    assert visit.page.locator(".ev-card").count() == 2
    assert "broken" in visit.page.locator(".ev-lost").inner_text()
    assert visit.canvas("emma.result.models.length") == 1
    assert "tokens=16" in visit.link()
    assert "broken" in visit.link()
    visit.close()


def test_a_link_pasted_into_an_open_tab_works_and_so_does_going_back(visit, coffee_hash):
    visit.example(1)
    visit.run()
    first = visit.link()
    link = f"image={coffee_hash}&models=emma-v1-pocket,nobody&prompt=Is%20it%20red%3F&tokens=24&layer=3&kind=cosine"
    visit.page.evaluate("link => { location.hash = link; }", link)
    visit.page.wait_for_function(
        "() => document.querySelector('.ev').emma.result?.prompt === 'Is it red?'", timeout=RUN_PATIENCE
    )
    visit.drawn()
    assert visit.canvas("emma.view.layer") == 3
    assert visit.canvas("emma.view.kind") == "cosine"
    assert "Asked: Is it red?" in visit.page.locator(".ev-prompt").inner_text()
    assert visit.page.locator("#explorer-prompt textarea").input_value() == "Is it red?"
    visit.page.evaluate(
        "link => { location.hash = link; }", visit.link().replace("layer=3", "layer=5") + "&patch=99999"
    )
    visit.page.wait_for_function("() => document.querySelector('.ev').emma.view.layer === 5")
    assert "patch" in visit.page.locator(".ev-toast").inner_text()
    for _ in range(6):
        visit.page.evaluate("history.back()")
        visit.page.wait_for_timeout(700)
        if visit.page.url.endswith(first):
            break
    visit.page.wait_for_function(
        "() => document.querySelector('.ev').emma.result?.image.name === 'cat'", timeout=RUN_PATIENCE
    )


def test_a_result_says_when_it_is_older_than_what_is_chosen(visit):
    visit.example()
    visit.run()
    notice = visit.page.locator(".ev-notice")
    assert notice.is_hidden()
    prompt = visit.page.locator("#explorer-prompt textarea")
    asked = prompt.input_value()
    prompt.fill("Something else?")
    visit.page.wait_for_selector(".ev-stale")
    assert "press Run" in notice.inner_text()
    prompt.fill(asked)
    visit.page.wait_for_selector(".ev:not(.ev-stale)")
    visit.example(2)
    visit.page.wait_for_selector(".ev-stale")
    visit.run()
    visit.page.wait_for_selector(".ev:not(.ev-stale)")


def test_keys_keep_the_place_and_say_where_it_is(visit):
    visit.example()
    visit.run()
    page = visit.page
    visit.panel("map").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+ArrowRight")
    said = page.locator(".ev-spoken").inner_text()
    place = re.search(r"row (\d+), column (\d+)", said).groups()
    visit.panel("decoded", 1).focus()
    page.keyboard.press("Shift+ArrowDown")
    row, column = re.search(r"row (\d+), column (\d+)", page.locator(".ev-spoken").inner_text()).groups()
    assert (int(row), column) == (int(place[0]) + 1, place[1])
    assert page.evaluate("document.activeElement.dataset.paint") == "decoded"
    page.get_by_role("button", name="Save").press("Enter")
    menu = page.get_by_role("menu")
    assert page.evaluate("document.activeElement.dataset.format") == "png"
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.dataset.format") == "sh"
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.format") == "png"
    page.keyboard.press("Escape")
    assert menu.is_hidden()
    assert page.evaluate("document.activeElement.textContent").startswith("Save")
