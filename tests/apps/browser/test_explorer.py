"""The page in a browser, with the models that ship and with a study: what a person does with a result."""

import re

import pytest

from emma_viz.maps import map_difference, measure
from emma_viz.session import View

pytestmark = pytest.mark.slow

LAYER = 4
"""The layer whose numbers are compared."""


def number(row, name: str) -> float:
    """The number that a row prints under a name."""
    text = row.locator(f"[data-number={name}]").inner_text().replace("−", "-")
    return float(re.search(r"-?[\d.]+(e-?\d+)?$", text).group())


def test_scrubbing_draws_every_layer_without_a_request(shown):
    visit, page = shown.visit, shown.visit.page
    page.locator(".ev-slider").focus()
    steps = visit.canvas("emma.result.models[0].layers.length")
    visit.drawn()
    visit.canvas("emma.stats.steps.clear()")
    count = len(visit.requests)
    pictures = {name: {visit.picture(name, model)} for name, model in PANELS}
    for step in range(1, steps):
        page.keyboard.press("ArrowRight")
        for name, model in PANELS:
            pictures[name].add(visit.picture(name, model))
        assert page.locator(".ev").get_attribute("data-step") == str(step)
        assert page.locator(".ev-slider").input_value() == str(step)
    assert {name: len(seen) for name, seen in pictures.items()} == dict.fromkeys(pictures, steps)
    assert set(visit.canvas("[...emma.stats.steps]")) >= set(range(1, steps))
    assert visit.requests[count:] == []


PANELS = [("decoded", 0), ("map", 0), ("highlight", 0), ("difference", 0)]


def test_slider_wheel_buttons_and_play_move_all_panels(shown):
    visit, page = shown.visit, shown.visit.page
    count, before = len(visit.requests), visit.picture("map", 1)
    page.locator(".ev-slider").fill("3")
    assert visit.picture("map", 1) != before
    page.mouse.move(*visit.at("map", 0.5, 0.5))
    page.mouse.wheel(0, 120)
    page.wait_for_function("document.querySelector('.ev').dataset.step === '4'")
    page.get_by_role("button", name="Previous layer").click()
    page.get_by_role("button", name="Next layer").click()
    page.get_by_role("button", name="Next layer").click()
    page.wait_for_function("document.querySelector('.ev').dataset.step === '5'")
    page.get_by_role("button", name="Play", exact=True).click()
    page.wait_for_function("Number(document.querySelector('.ev').dataset.step) >= 8")
    page.get_by_role("button", name="Pause").click()
    page.locator(".ev-slider").focus()
    page.keyboard.press("Home")
    page.wait_for_function("document.querySelector('.ev').dataset.step === '0'")
    assert [url for url in visit.requests[count:] if "component_server" not in url] == []


def test_numbers_on_screen_are_those_of_the_api(shown):
    visit, page, comparison = shown.visit, shown.visit.page, shown.comparison
    decodings = comparison.decodings
    step = decodings[0].layers.index(LAYER)
    page.locator(".ev-slider").fill(str(step))
    page.mouse.click(*visit.at("map", 0.5, 0.5))
    page.mouse.move(2, 2)
    visit.drawn()
    for index, (maps, decoding) in enumerate(zip(comparison.maps(View()), decodings, strict=True)):
        row = page.locator(f'.ev-row[data-model="{index}"]')
        rows, columns = decoding.grid
        assert number(row, "value") == float(f"{maps.values[step, 0, rows // 2, columns // 2]:.3g}")
        assert number(row, "r") == pytest.approx(float(maps.correlation[step, 0]), abs=0.0051)
        assert number(row, "r2") == pytest.approx(measure(decoding)[step].images[0].r2, abs=0.0051)
        assert number(row, "lens") == pytest.approx(decoding.lens.quality_of(LAYER).r2, abs=0.0051)
        assert visit.canvas(f"emma.result.models[{index}].answer") == decoding.answers[0]
        assert page.locator(".ev-answer").nth(index).inner_text() == decoding.answers[0].strip()
    low, high = comparison.maps(View())[0].limits[0, 0]
    limits = [text.replace("−", "-") for text in page.locator(".ev-legend .ev-limit").all_inner_texts()]
    assert [float(text) for text in limits[:2]] == [float(f"{low:.3g}"), float(f"{high:.3g}")]
    first, second = comparison.maps(View())
    assert visit.canvas(
        f"[...emma.result.models[0].maps.distance.values].slice(0, {first.values[0, 0].size})"
    ) == (first.values[0, 0].ravel().tolist())
    wide = visit.canvas("emma.result.differences['0,1'].distance")
    assert float(limits[3]) == pytest.approx(wide, rel=0.005)
    assert wide == pytest.approx(float(map_difference(first, second).limit[0]), rel=1e-6)


def test_kinds_scales_colours_and_blend_change_the_picture_and_say_so(shown):
    visit, page = shown.visit, shown.visit.page
    first = visit.picture("map")
    page.get_by_label("Scale").select_option("per_map")
    assert visit.picture("map") != first
    assert "each map has its own scale" in page.locator("[data-scale]").inner_text()
    page.get_by_label("Scale").select_option("per_row")
    assert "compare layers, not models" in page.locator("[data-scale]").inner_text()
    page.get_by_label("Scale").select_option("shared")
    assert "one scale for all" in page.locator("[data-scale]").inner_text()
    page.get_by_label("Colours", exact=True).select_option("magma")
    assert visit.picture("map") != first
    page.get_by_label("Colours", exact=True).select_option("viridis")
    true = visit.picture("truemap")
    for kind in ("magnitude", "error", "cosine"):
        page.get_by_label("Map", exact=True).select_option(kind)
        assert visit.picture("map") != first
    page.get_by_label("Map", exact=True).select_option("distance")
    assert visit.picture("map") == first
    assert visit.picture("truemap") == true
    highlight = visit.picture("highlight")
    page.get_by_label("Highlight strength").fill("0.2")
    assert visit.picture("highlight") != highlight
    page.get_by_label("Highlight strength").fill("0.8")
    assert visit.picture("highlight") == highlight


def test_models_change_places_and_the_pair_of_the_difference_is_chosen(shown):
    visit, page = shown.visit, shown.visit.page
    asked = list(visit.requests)
    before = visit.picture("map", 0), visit.picture("map", 1), visit.picture("difference")
    second = shown.comparison.decodings[1].model.name
    page.get_by_role("button", name=f"Move {second} one row up").click()
    assert (visit.picture("map", 1), visit.picture("map", 0)) == before[:2]
    assert page.locator(".ev-row header b").first.inner_text() == second
    turned = visit.picture("difference")
    assert turned != before[2]
    page.get_by_label("Difference", exact=True).select_option("1,0")
    assert visit.picture("difference", 1) == before[2]  # the panel counts the patches of its first model
    assert "difference B − A" in page.locator("[data-paint=difference] + figcaption").inner_text()
    assert {"order=1%2C0", "pair=1%2C0"} <= set(visit.link().split("&"))
    assert visit.requests == asked
    page.locator(".ev-up").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Difference", exact=True).select_option("0,1")
    assert (visit.picture("map", 0), visit.picture("map", 1), visit.picture("difference")) == before


def test_curves_read_and_choose_a_layer(shown):
    visit, page = shown.visit, shown.visit.page
    chart = page.locator(".ev-curves .ev-chart").first
    box = chart.locator("svg").bounding_box()
    at_start = chart.locator(".ev-chart-value").inner_text()
    page.mouse.move(box["x"] + box["width"] - 8, box["y"] + box["height"] / 2)
    visit.drawn()
    last = visit.canvas("emma.result.models[0].scores.r2.at(-1)")
    assert f"A {last:.2f}".replace("-", "−") in chart.locator(".ev-chart-value").inner_text()
    page.mouse.click(box["x"] + box["width"] - 8, box["y"] + box["height"] / 2)
    visit.drawn()
    assert visit.canvas("emma.step") == visit.canvas("emma.result.models[0].layers.length") - 1
    lines = [line.bounding_box() for line in page.locator(".ev-curves .ev-cursor").all()]
    plots = [plot.bounding_box() for plot in page.locator(".ev-curves svg").all()]
    at = [line["x"] + line["width"] / 2 - plot["x"] for line, plot in zip(lines, plots, strict=True)]
    assert at == pytest.approx([box["width"] - 8] * 2, abs=1)  # both charts mark the layer
    page.locator(".ev-slider").fill("0")
    page.mouse.move(2, 2)
    visit.drawn()
    assert chart.locator(".ev-chart-value").inner_text() == at_start


def test_a_patch_is_pointed_at_locked_and_released(shown):
    visit, page = shown.visit, shown.visit.page
    title = page.locator(".ev-inspected")
    assert title.inner_text().startswith("Whole image")
    page.mouse.move(*visit.at("decoded", 0.1, 0.1))
    visit.drawn()
    pointed = title.inner_text()
    page.mouse.click(*visit.at("decoded", 0.4, 0.5))
    visit.drawn()
    locked = title.inner_text()
    assert re.fullmatch(r"Patch: row \d+, column \d+", locked)
    assert locked != pointed
    page.mouse.move(*visit.at("decoded", 0.9, 0.9))
    visit.drawn()
    assert title.inner_text() == locked
    assert page.locator(".ev-strip").count() == 2
    assert page.locator(".ev-path .ev-line").count() == 3  # two models and the true value
    if shown.live:
        page.wait_for_selector(".ev-read")
        shares = [
            int(re.search(r"(\d+)%", text).group(1)) for text in page.locator(".ev-read").all_inner_texts()
        ]
        assert len(shares) == 8
        assert all(0 <= share <= 100 for share in shares)
    else:
        assert "words need the model" in page.locator(".ev-reads").first.inner_text()
    marks = page.locator(".ev-strip-mark")
    before = [mark.bounding_box() for mark in marks.all()]
    page.locator(".ev-slider").fill(str(visit.canvas("emma.step") + 1))
    visit.drawn()
    after = [mark.bounding_box() for mark in marks.all()]
    assert len(after) == 2
    assert all((new["x"], new["y"]) != (old["x"], old["y"]) for old, new in zip(before, after, strict=True))
    page.get_by_role("button", name="release").click()
    page.mouse.move(2, 2)
    visit.drawn()
    assert title.inner_text().startswith("Whole image")


def test_the_true_map_follows_the_colours_after_a_step(shown):
    visit, page = shown.visit, shown.visit.page
    page.locator(".ev-slider").fill("0")
    visit.drawn()
    first = visit.picture("truemap")
    page.locator(".ev-slider").fill("1")
    visit.drawn()
    assert visit.picture("truemap") == first
    page.get_by_label("Colours", exact=True).select_option("magma")
    visit.drawn()
    assert visit.picture("truemap") != first
    page.get_by_label("Colours", exact=True).select_option("viridis")
    visit.drawn()
    assert visit.picture("truemap") == first


def test_a_patch_is_reached_by_keys(shown):
    visit, page = shown.visit, shown.visit.page
    visit.panel("map").focus()
    page.keyboard.press("Enter")
    visit.drawn()
    first = page.locator(".ev-inspected").inner_text()
    page.keyboard.press("Shift+ArrowRight")
    visit.drawn()
    second = page.locator(".ev-inspected").inner_text()
    assert [int(n) for n in re.findall(r"\d+", second)] == [
        n + step for n, step in zip(map(int, re.findall(r"\d+", first)), (0, 1), strict=True)
    ]


def test_a_box_is_a_region(shown):
    visit, page = shown.visit, shown.visit.page
    page.mouse.move(*visit.at("map", 0.3, 0.3))
    page.mouse.down()
    page.mouse.move(*visit.at("map", 0.5, 0.5), steps=4)
    page.mouse.move(*visit.at("map", 0.6, 0.7), steps=4)
    page.mouse.up()
    visit.drawn()
    rows, columns = map(
        int,
        re.fullmatch(r"Region: (\d+) × (\d+) patches", page.locator(".ev-inspected").inner_text()).groups(),
    )
    assert rows > 1
    assert columns > 1
    top, left, bottom, right = map(int, re.search(r"region=([\d%C]+)", visit.link()).group(1).split("%2C"))
    assert (bottom - top + 1, right - left + 1) == (rows, columns)
    maps = shown.comparison.maps(View())[0]
    page.mouse.move(2, 2)
    visit.drawn()
    shown_mean = number(page.locator('.ev-row[data-model="0"]'), "value")
    assert shown_mean == pytest.approx(
        float(maps.values[0, 0, top : bottom + 1, left : right + 1].mean()), rel=0.006
    )


def test_what_follows_a_word_without_a_space_stays_on_its_line(shown):
    if not shown.live:
        return
    units = shown.visit.page.locator(".ev-unit")
    places = units.evaluate_all(
        "units => units.map(unit => [unit.innerText, unit.childElementCount, unit.getClientRects().length])"
    )
    assert any(text.endswith(".") and parts > 1 for text, parts, _ in places)
    assert not any(text[0] in ".,?" for text, *_ in places)
    assert {lines for *_, lines in places} == {1}


def test_words_that_need_a_model_are_offered_with_one_only(shown):
    visit, page = shown.visit, shown.visit.page
    if not shown.live:
        assert page.locator(".ev-word").count() == 0
        assert "without" in page.locator(".ev-answers .ev-soft").last.inner_text()
        return
    before = [visit.picture(name, model) for name in ("highlight", "map") for model in (0, 1)]
    page.locator(".ev-word").first.click()
    page.wait_for_selector("[data-share]")
    assert "Evidence for" in page.locator(".ev-legend").inner_text()
    after = [visit.picture(name, model) for name in ("highlight", "map") for model in (0, 1)]
    assert [one != other for one, other in zip(before, after, strict=True)] == [True, True, False, False]
    assert page.locator("[data-paint=highlight] + figcaption .ev-tip").first.inner_text() == "evidence"
    assert re.search(r"word=0%2C\d+", visit.link())
    page.keyboard.press("Escape")
    assert visit.picture("highlight") == before[0]
    assert page.locator("[data-paint=highlight] + figcaption .ev-tip").first.inner_text() == "highlight"


def test_the_main_view_needs_no_scrolling(shown):
    assert (
        shown.visit.page.evaluate(
            """() => ['.ev-bar', '.ev-rows', '.ev-inspector', '.ev-legend', '.ev-scrub', '.ev-curves'].filter(
          (part) => document.querySelector(part).getBoundingClientRect().bottom > innerHeight)"""
        )
        == []
    )
    assert shown.visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
