"""The page on screens of four widths, light and dark: everything can be reached, nothing is cut, nobody is shut out."""

import pytest

from tests.apps.axe import violations
from tests.apps.visiting import Visit

pytestmark = pytest.mark.slow

SCREENS = {390: 844, 960: 600, 1024: 768, 1440: 900}
"""A phone, a laptop at 150 %, an old screen, a usual one: width and height."""
PARTS = (".ev-bar", ".ev-rows", ".ev-answers", ".ev-inspector", ".ev-legend", ".ev-scrub", ".ev-curves")

REACHED = """(part) => {
  const node = document.querySelector(part);
  node.scrollIntoView({ block: "center" });
  const box = node.getBoundingClientRect();
  return box.bottom > 0 && box.top < innerHeight && box.left >= -1 && box.right <= innerWidth + 1 && box.width > 40;
}"""
TEXTS = ".ev header > b, .ev-where, .ev-at, .ev-limit, .ev-chart-value, .ev-panel figcaption"
CUT = """(texts) => [...document.querySelectorAll(texts)].filter((node) => {
  const box = node.getBoundingClientRect();
  return box.width && (box.right > innerWidth + 1 || box.left < -1);
}).map((node) => node.className + ": " + node.textContent)"""
COVERED = """() => [...document.querySelectorAll("canvas[data-paint]")].filter((panel) => {
  panel.scrollIntoView({ block: "center" });
  const box = panel.getBoundingClientRect();
  return [[0.02, 0.03], [0.02, 0.97], [0.5, 0.97], [0.98, 0.97]].some(
    ([x, y]) => document.elementFromPoint(box.x + x * box.width, box.y + y * box.height) !== panel
  );
}).map((panel) => panel.dataset.paint)"""


@pytest.fixture(params=[(width, look) for width in SCREENS for look in ("light", "dark")], ids=str)
def screen(request, browser, address):
    """A page on a screen, with a result on it."""
    width, look = request.param
    visit = Visit(
        browser, address, width=width, height=SCREENS[width], color_scheme=look, has_touch=width < 500
    ).open()
    visit.page.wait_for_selector("#explorer-examples .thumbnail-item")
    visit.empty = violations(visit)
    visit.example()
    visit.run()
    visit.drawn()
    yield visit
    visit.close()


def test_every_screen_shows_all_of_it_and_shuts_nobody_out(screen):
    page = screen.page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert [part for part in PARTS if not page.evaluate(REACHED, part)] == []
    assert page.evaluate(CUT, TEXTS) == []
    assert page.evaluate(COVERED) == []
    assert page.evaluate("document.activeElement.id") == "explorer-run"  # where the finger is
    page.locator(".ev-word").first.click()
    page.wait_for_selector("[data-share]")
    assert screen.empty + violations(screen) == []
    names = page.locator("#explorer-examples .thumbnail-item").evaluate_all(
        "all => all.map(each => each.getAttribute('aria-label'))"
    )
    assert names[:2] == ["coffee", "cat"]
    assert page.locator("[tabindex='0'].ev-tip").count() == 0


def test_on_a_phone_run_scrolls_to_the_result_and_a_swipe_scrolls_on(browser, address):
    visit = Visit(browser, address, width=390, height=844, has_touch=True).open()
    visit.example()
    visit.run()
    visit.page.wait_for_function(
        "document.querySelector('.ev').getBoundingClientRect().top < innerHeight / 2"
    )
    panel = visit.panel("map")
    panel.scroll_into_view_if_needed()
    assert panel.evaluate("each => getComputedStyle(each).touchAction") == "pan-y"
    visit.close()
