"""Evidence beside the map, for a word and several, found in each way, and what they lose without a place."""

import pytest

pytestmark = pytest.mark.slow


def test_evidence_stands_beside_the_map_and_follows_what_is_chosen(visit):
    page = visit.page
    visit.example()
    visit.run()
    before, lit = visit.picture("map"), visit.picture("highlight")
    page.locator(".ev-word").first.click()
    page.wait_for_selector("[data-share]")
    assert visit.picture("map") == before
    one = visit.picture("highlight")
    assert one != lit
    assert page.locator("[data-paint=highlight] + figcaption .ev-tip").first.inner_text() == "evidence"
    page.get_by_role("button", name="+ next word").click()
    page.wait_for_function("document.querySelector('.ev').emma.view.word?.length === 3")
    page.wait_for_selector("[data-share]")
    assert page.locator(".ev-word[aria-pressed=true]").count() == 2
    assert visit.picture("highlight") != one
    page.get_by_label("Evidence", exact=True).select_option("frozen")
    page.wait_for_function("document.querySelector('[data-number=evidence]').textContent.startsWith('image')")
    frozen, parts = visit.picture("highlight"), page.locator("[data-number=evidence]").first.inner_text()
    asked = list(visit.requests)
    page.locator(".ev-slider").fill("0")
    assert visit.picture("highlight") != frozen  # layer by layer, without a request
    assert page.locator("[data-number=evidence]").first.inner_text() != parts
    assert visit.requests == asked
    assert "evidence=frozen" in visit.link()
    page.mouse.click(*visit.at("map", 0.5, 0.4))
    page.mouse.move(2, 2)
    page.locator(".ev-without button").click()
    page.wait_for_selector(".ev-without li")
    assert "other places" in page.locator(".ev-without li").first.inner_text()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert page.locator("[data-paint=highlight] + figcaption .ev-tip").first.inner_text() == "highlight"
