"""Every state of the page on screens of four widths, light and dark: nothing is cut, out of reach or shuts people out.

One page walks through the states, and each is looked at on all screens: a screen costs no page of its own.
"""

import re
from contextlib import contextmanager
from dataclasses import replace

import pytest

from emma_viz.render.web.page import canvas_page
from emma_viz.session import Comparison, Running, capture, decode_study
from emma_viz.session.payload import payload
from tests.apps.axe import violations
from tests.apps.visiting import RUN_PATIENCE, Visit, serving

pytestmark = pytest.mark.slow

SCREENS = {390: 844, 960: 600, 1024: 768, 1440: 900}
"""A phone, a laptop at 150 %, an old screen, a usual one: width and height."""
LOOKS = ("light", "dark")
COLOURS = ("color-contrast",)
JUDGED = {(390, "light"): COLOURS, (390, "dark"): (), (1440, "light"): (), (1440, "dark"): COLOURS}
"""Screens on which axe-core looks too → its rules, all where none is named. A narrow and a wide page are laid out in
two ways, and each has two sets of colours; of the other rules none knows of colours."""
PARTS = (".ev-bar", ".ev-rows", ".ev-answers", ".ev-inspector", ".ev-legend", ".ev-scrub", ".ev-curves")

TEXTS = ".ev header > b, .ev-forced, .ev-where, .ev-at, .ev-limit, .ev-chart-value, .ev-panel figcaption, .ev-notes li"
WIDER = """() => document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll("body *")]
  .filter((node) => node.getBoundingClientRect().right > innerWidth + 1)
  .map((node) => `${node.tagName} ${node.className} makes it scroll sideways`)"""
"""What reaches out to the right of a page that scrolls sideways."""
CUT = """(texts) => [...document.querySelectorAll(texts)].filter((node) => {
  const box = node.getBoundingClientRect();
  return box.width && (box.right > innerWidth + 1 || box.left < -1);
}).map((node) => `${node.className}: ${node.textContent} is cut`)"""
CLIPPED = """() => [...document.querySelectorAll(".ev-panel figcaption [data-number]")].filter((held) => {
  const panel = held.closest(".ev-panel").getBoundingClientRect();
  const out = [...held.getClientRects()].some((box) => box.right > panel.right + 1 || box.bottom > panel.bottom + 1);
  return out || (held.clientWidth && held.scrollWidth > held.clientWidth + 1);
}).map((held) => `${held.textContent} is not whole`)"""
"""The numbers below a panel that reach out of it, or are shortened."""
FOOT_BELOW = """() => document.querySelector("footer").getBoundingClientRect().top >=
  Math.max(...[...document.querySelectorAll(".ev, .ev *")].map((node) => node.getBoundingClientRect().bottom)) - 1"""
SHORT_OF_TIP = """() => [...document.querySelectorAll(".ev .ev-tip:hover")].filter((tip) => {
  const [own, box] = [getComputedStyle(tip, "::after"), tip.getBoundingClientRect()];
  const [left, width] = [box.left + parseFloat(own.left), parseFloat(own.width)];
  return !(left >= 0 && left + width <= document.documentElement.clientWidth + 1);
}).map(() => "reaches out of the page")"""
"""The tooltip under the pointer, where it does not stand on the page as a whole."""
OUT_OF_REACH = """(parts) => parts.filter((part) => {
  const node = document.querySelector(part);
  node.scrollIntoView({ block: "center" });
  const box = node.getBoundingClientRect();
  return !(box.bottom > 0 && box.top < innerHeight && box.left >= -1 && box.right <= innerWidth + 1 && box.width > 8);
}).map((part) => `${part} cannot be reached`)"""
COVERED = """() => [...document.querySelectorAll("canvas[data-paint]")].filter((panel) => {
  panel.scrollIntoView({ block: "center" });
  const box = panel.getBoundingClientRect();
  return [[0.02, 0.03], [0.02, 0.97], [0.5, 0.97], [0.98, 0.97]].some(
    ([x, y]) => document.elementFromPoint(box.x + x * box.width, box.y + y * box.height) !== panel
  );
}).map((panel) => `${panel.dataset.paint} is covered`)"""
WRONG = f"""({{ parts, texts, covers }}) => [
  ...({WIDER})(), ...({CLIPPED})(), ...({OUT_OF_REACH})(parts), ...({CUT})(texts), ...(covers ? [] : ({COVERED})()),
]"""


def faults(visit: Visit, *shown: str, covers: bool = False) -> list[str]:
    """What is wrong with the state that a page is in, on any of the screens.

    Args:
        shown: selectors of what must be reached in it, beside the usual parts where there is a result.
        covers: whether something lies over the panels, as it should in this state.
    """
    found, page = [], visit.page
    usual = PARTS if visit.canvas("Boolean(emma.result)") else ()
    asked = {"parts": [*usual, *shown], "texts": TEXTS, "covers": covers or not usual}
    for look in LOOKS:
        page.emulate_media(color_scheme=look)
        page.wait_for_function(
            "dark => document.body.classList.contains('dark') === dark", arg=look == "dark"
        )
        for width, height in SCREENS.items():
            page.set_viewport_size({"width": width, "height": height})
            visit.drawn()
            visit.drawn()
            wrong = page.evaluate(WRONG, asked)
            if (width, look) in JUDGED:
                wrong += violations(visit, *JUDGED[width, look])
            found += [f"{width} {look}: {each}" for each in wrong]
    return found


@pytest.fixture(scope="module")
def wall(browser, address):
    """One page; its states are shown in the order of the tests."""
    found = Visit(browser, address).open()
    found.page.wait_for_selector("#explorer-examples .thumbnail-item")
    yield found
    found.close()


@pytest.fixture
def result(wall):
    """The page with a result, as a visitor finds it."""
    page = wall.page
    page.set_viewport_size({"width": 1440, "height": 900})
    if not wall.canvas("Boolean(emma.result)"):
        wall.example()
        wall.run()
        assert page.evaluate("document.activeElement.id") == "explorer-run"  # where the finger is
    page.mouse.move(2, 2)
    wall.drawn()
    return wall


def test_an_empty_page(wall):
    names = wall.page.locator("#explorer-examples .thumbnail-item").evaluate_all(
        "all => all.map(each => each.getAttribute('aria-label'))"
    )
    assert names[:2] == ["coffee", "cat"]
    assert wall.page.locator("#explorer-stop").is_hidden()
    assert faults(wall, ".ev-note", "#explorer-run", "#explorer-prompt") == []


def test_an_error_on_an_empty_page(wall):
    wall.canvas("emma.fail('photo is not an image: it begins like a letter.')")
    assert faults(wall, ".ev-error", ".ev-error button", "#explorer-run") == []
    wall.page.get_by_role("button", name="Close").click()


@contextmanager
def running(visit: Visit):
    """The page as it is while the models answer, with Stop in the place of Run."""
    visit.page.evaluate("document.body.classList.add('explorer-busy')")
    yield
    visit.page.evaluate("document.body.classList.remove('explorer-busy')")
    visit.canvas("emma.calm()")


def test_a_first_run(wall):
    wall.canvas(
        "emma.busy({ message: 'reading', done: 1, total: 3, models: [{ name: 'a', answer: 'so far', busy: true }] })"
    )
    with running(wall):
        assert faults(wall, ".ev-progress", ".ev-answer", "#explorer-stop") == []


def test_a_result(result):
    assert result.page.locator("[tabindex='0'].ev-tip").count() == 0
    assert faults(result, ".ev-prompt", "#explorer-run") == []
    result.page.set_viewport_size({"width": 1024, "height": 768})
    result.page.evaluate("scrollTo(0, 0)")
    result.drawn()
    for part in (".ev-slider", ".ev-answers"):
        box = result.page.locator(part).bounding_box()
        assert box["y"] + box["height"] <= 768
    ink = result.page.evaluate("getComputedStyle(document.querySelector('.ev')).color")
    assert min(map(int, re.findall(r"\d+", ink)[:3])) > 180  # the last look was the dark one


def test_a_later_run(result):
    result.canvas("emma.busy({ message: 'reading', done: 0, total: 0, models: [] })")
    with running(result):
        assert faults(result, ".ev-progress", "#explorer-stop", covers=True) == []


def test_an_error_over_a_result(result):
    result.canvas("emma.fail('photo is not an image: it begins like a letter.')")
    assert faults(result, ".ev-error", ".ev-error button", covers=True) == []
    result.canvas("emma.calm()")


def test_a_server_that_does_not_answer_and_what_a_link_lost(result):
    result.canvas("emma.notice('The server does not answer: it has ended, or the network is down.')")
    result.canvas("emma.say('Not restored from the link: the model nobody, layer.')")
    assert faults(result, ".ev-notice", covers=True) == []
    result.canvas("emma.notice('')")


def test_a_patch_that_is_kept_and_moved(result):
    result.panel("map").focus()
    result.page.keyboard.press("Enter")
    result.page.keyboard.press("Shift+ArrowRight")
    result.page.wait_for_selector(".ev-read")
    assert faults(result, ".ev-inspector .ev-chip", ".ev-read") == []
    result.page.keyboard.press("Escape")


def test_a_word_and_its_evidence(result):
    result.page.locator(".ev-word").first.click()
    result.page.wait_for_selector("[data-share]")
    assert faults(result, "[data-share]", ".ev-legend .ev-chip", "[data-set=method]") == []
    result.page.set_viewport_size({"width": 1440, "height": 900})
    result.page.get_by_label("Evidence", exact=True).select_option("frozen")
    result.page.wait_for_function(
        "document.querySelector('[data-number=evidence]').textContent.startsWith('image')"
    )
    result.page.mouse.move(2, 2)
    assert faults(result, "[data-share]", "[data-number=evidence]") == []
    result.page.set_viewport_size({"width": 1440, "height": 900})
    result.panel("map").focus()
    result.page.keyboard.press("Enter")
    result.page.locator(".ev-without button").click()
    result.page.wait_for_selector(".ev-without li")
    assert faults(result, "[data-share]", ".ev-without li", "[data-set=method]") == []
    result.page.keyboard.press("Escape")
    result.page.keyboard.press("Escape")


def test_a_word_that_is_being_measured(result):
    held = []

    def answer(route):
        asked = route.request.post_data_json["fn_name"]
        if asked == "attribute":
            held.append(route)
        elif asked == "progress":
            route.fulfill(json={"done": 4, "total": 10})
        else:
            route.continue_()

    result.page.route(re.compile("/component_server"), answer)
    result.page.locator(".ev-word").nth(1).click()
    result.page.wait_for_selector("text=measuring… 40 %")
    assert faults(result, ".ev-legend .ev-chip") == []
    result.page.keyboard.press("Escape")
    held[0].fulfill(json={"error": "The measurement was stopped."})
    result.page.unroute(re.compile("/component_server"))
    assert result.page.locator(".ev-legend .ev-chip").count() == 0


def test_a_region_that_is_kept(result):
    page = result.page
    page.mouse.move(*result.at("map", 0.2, 0.2))
    page.mouse.down()
    page.mouse.move(*result.at("map", 0.6, 0.7), steps=4)
    page.mouse.up()
    result.drawn()
    assert page.locator(".ev-inspected").inner_text().startswith("Region")
    assert faults(result, ".ev-inspector .ev-chip") == []
    page.keyboard.press("Escape")


def test_tooltips_are_whole(result):
    page, found = result.page, []
    for width, height in SCREENS.items():
        page.set_viewport_size({"width": width, "height": height})
        result.drawn()
        for tip in page.locator(".ev .ev-tip:visible").all():
            tip.hover()
            found += [f"{width}: {tip.inner_text()}: {each}" for each in page.evaluate(SHORT_OF_TIP)]
    assert found == []


def test_the_menu_of_files_and_what_they_hold(result):
    result.page.get_by_role("button", name="Save").click()
    assert "who gets the file gets them" in result.page.locator(".ev-inside").inner_text()
    assert faults(result, ".ev-menu:not([hidden])", ".ev-inside", covers=True) == []
    result.page.keyboard.press("Escape")


def test_the_list_of_runs(result):
    page = result.page
    prompt = page.locator("#explorer-prompt textarea")
    asked = prompt.input_value()
    prompt.fill("What does the image show, and what is it that stands in the middle of it?")
    result.run()
    page.get_by_role("button", name="Runs").click()
    page.locator("[data-pin]").first.click()
    page.wait_for_selector("[data-pin][aria-pressed=true]")
    assert faults(result, ".ev-runs", ".ev-run", "[data-pin]", covers=True) == []
    page.set_viewport_size({"width": 1440, "height": 900})
    page.locator(".ev-run").last.click()
    page.keyboard.press("Escape")
    prompt.fill(asked)
    page.wait_for_selector(".ev:not(.ev-stale)")


def test_a_result_that_is_older_than_what_is_chosen(result):
    prompt = result.page.locator("#explorer-prompt textarea")
    asked = prompt.input_value()
    prompt.fill("Something else?")
    result.page.wait_for_selector(".ev-stale")
    assert faults(result, ".ev-notice") == []
    prompt.fill(asked)
    result.page.wait_for_selector(".ev:not(.ev-stale)")


def test_a_model_that_failed_beside_one_that_answered(result):
    image = result.canvas("emma.result.image.hash")
    result.page.set_viewport_size({"width": 1440, "height": 900})
    result.page.evaluate(
        "link => { location.hash = link; }",
        f"image={image}&models=broken,emma-v1-pocket&prompt=What%3F&tokens=8",
    )
    result.page.wait_for_selector(".ev-lost", timeout=RUN_PATIENCE)
    result.drawn()
    assert faults(result, ".ev-lost") == []


@pytest.fixture(scope="module")
def several(tiny_comparison, browser, tmp_path_factory):
    """A saved page of four models: a forced lens, a native one, a name that is long."""
    first, second = tiny_comparison.decodings
    last = second.select(layers=second.layers[-1:])
    native = replace(last, lens=replace(last.lens, kind="native"))
    forced = replace(first, forced_reasons=("it was fitted on emma",))
    long = replace(second, model=replace(second.model, name="a-model-with-a-name-longer-than-most-others"))
    shown = Comparison(
        decodings=(forced, second, native, replace(long, forced_reasons=("it was fitted on cobra",))),
        image_names=tiny_comparison.image_names,
    )
    path = tmp_path_factory.mktemp("saved") / "page.html"
    path.write_text(canvas_page(payload(shown, live=False), {}, provenance=["a test"]), encoding="utf-8")
    visit = Visit(browser, path.as_uri()).open()
    visit.result()
    visit.drawn()
    yield visit
    visit.close()


def test_four_models_say_which_lens_was_forced_and_no_mark_is_cut(several):
    page = several.page
    whole = """() => [...document.querySelectorAll(".ev-forced")].map((mark) => {
      const [box, head] = [mark.getBoundingClientRect(), mark.parentElement.getBoundingClientRect()];
      return box.width > 20 && box.left >= head.left && box.right <= head.right + 1 && box.bottom <= head.bottom + 1;
    })"""
    for width, height in SCREENS.items():
        page.set_viewport_size({"width": width, "height": height})
        several.drawn()
        several.drawn()
        assert page.evaluate(whole) == [True, True], width
        assert page.evaluate(WIDER) == [], width
        assert page.evaluate(CUT, TEXTS) == [], width
        assert page.evaluate(FOOT_BELOW), width
    assert "not measured" in page.locator('.ev-row[data-model="0"] [data-number=lens]').inner_text()
    assert [text for text in page.locator(".ev-notes li").all_inner_texts() if "was forced" in text]


def test_a_saved_page_on_every_screen(several):
    assert faults(several, ".ev-forced", "footer") == []


def test_a_lens_of_one_layer_is_a_point_in_the_curves(several):
    page = several.page
    page.set_viewport_size({"width": 1440, "height": 900})
    several.drawn()
    for chart in page.locator(".ev-curves svg, .ev-path svg").all():
        points = chart.evaluate(
            "(chart) => [...chart.querySelectorAll('[style*=\"--ev-m2\"]')].map((each) => each.tagName === 'polyline'"
            " ? each.points.numberOfItems - 1 : each.tagName)"
        )
        assert {0, "circle"} == set(points)  # lines of no length, and their marks
    values = page.locator(".ev-curves .ev-chart-value").first
    page.locator(".ev-slider").fill("0")
    several.drawn()
    assert "C –" in values.inner_text()
    page.locator(".ev-slider").fill(str(several.canvas("emma.result.models[0].layers.length") - 1))
    several.drawn()
    assert "C –" not in values.inner_text()


@pytest.fixture
def replayed_tiny(browser, pair, photos, tmp_path):
    """A page on a study of the tiny pair, without a model."""
    capture(photos, pair.models, tmp_path / "study", running=Running(vision_source=str(pair.vision)))
    decode_study(tmp_path / "study")
    with serving("--study", str(tmp_path / "study")) as (address, _):
        visit = Visit(browser, address).open()
        visit.result()
        yield visit
        visit.close()


def test_a_study_without_its_models(replayed_tiny):
    assert "words show no evidence" in replayed_tiny.page.locator(".ev-answers").inner_text()
    assert faults(replayed_tiny, "#explorer-side") == []


def test_a_link_pasted_into_a_page_of_a_study_works_and_so_does_going_back(replayed_tiny):
    page = replayed_tiny.page
    first, shown = (
        replayed_tiny.canvas("emma.result.image.hash"),
        "document.querySelector('.ev').emma.result.image.hash",
    )
    page.locator("#explorer-images .thumbnail-item").last.click()
    page.wait_for_function(f"{shown} !== '{first}'")
    other = replayed_tiny.canvas("emma.result.image.hash")
    page.wait_for_function(f"location.hash.includes('{other}')")
    page.go_back()
    page.wait_for_function(f"{shown} === '{first}'")
    page.evaluate(f"location.hash = '#image={other}'")
    page.wait_for_function(f"{shown} === '{other}'")
    page.evaluate("location.hash = '#image=ab'")
    page.wait_for_function(f"{shown} === '{first}'")
    page.wait_for_function(
        "document.querySelector('.ev').innerText.includes('Not restored from the link: the image.')"
    )


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
