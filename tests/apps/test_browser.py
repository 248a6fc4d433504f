"""The explorer in a browser: what a person does, with the models that ship and with a study."""

import base64
import re
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from tests.apps.programs import program

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
RUN_SECONDS = 60_000


@contextmanager
def served(*options: str):
    """The explorer as a process of its own; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "apps.explorer", "--port", str(port), *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture(scope="module")
def address():
    from emma_viz.checkpoints import bundled_names

    if len(bundled_names()) < 2:
        pytest.skip("no models ship with this checkout")
    with served() as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    chromium = program("chromium", "chromium-browser", "google-chrome")
    with sync_playwright() as tool:
        found = tool.chromium.launch(executable_path=chromium, args=FLAGS)
        yield found
        found.close()


class Visit:
    """One page, with everything that must not happen on it."""

    def __init__(self, browser, address: str, **options):
        self.address, self.wrong, self.requests = address, [], []
        self.context = browser.new_context(viewport={"width": 1440, "height": 900}, **options)
        self.page = self.context.new_page()
        self.page.on("console", lambda said: said.type == "error" and self.wrong.append(said.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", self._request)

    def _request(self, request):
        self.requests.append(request.url)
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.wrong.append(f"outside: {request.url}")

    def open(self, link: str = ""):
        self.page.goto(self.address + link)
        self.page.wait_for_selector(".ev")
        return self

    def example(self, number: int = 0):
        name = self.page.locator("#explorer-examples img").nth(number).get_attribute("alt")
        self.page.locator("#explorer-examples .thumbnail-item").nth(number).click()
        self.page.wait_for_selector(f'#explorer-image img[src$="{name}.png"]')

    def run(self):
        before = self.page.evaluate("document.querySelector('.ev').emma.result?.asked?.prompt ?? null")
        self.page.get_by_role("button", name="Run", exact=True).click()
        if before is not None:
            self.page.wait_for_selector('.ev[data-state="busy"]')
        self.page.wait_for_selector('.ev[data-state="result"]', timeout=RUN_SECONDS)
        self.page.wait_for_timeout(300)

    def canvas(self, expression: str):
        return self.page.evaluate(
            f"(() => {{ const emma = document.querySelector('.ev').emma; return {expression}; }})()"
        )

    def panel(self, name: str, model: int = 0):
        return self.page.locator(f'canvas[data-paint="{name}"][data-model="{model}"]')

    def at(self, name: str, x: float, y: float):
        box = self.panel(name).bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def close(self):
        self.context.close()
        assert not self.wrong, self.wrong


@pytest.fixture
def visit(browser, address):
    found = Visit(browser, address).open()
    yield found
    found.close()


@pytest.fixture(scope="module")
def shared(browser, address):
    """One page with a result, for tests that change nothing that others need."""
    found = Visit(browser, address, accept_downloads=True).open()
    found.example()
    found.run()
    yield found
    found.close()


@pytest.fixture(autouse=True)
def fresh(request):
    """Release what an earlier test locked on the shared page."""
    yield
    if "shared" in request.fixturenames:
        page = request.getfixturevalue("shared").page
        for _ in range(3):
            page.keyboard.press("Escape")


def test_an_uploaded_image_is_answered_by_both_models(visit, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)).save(
        tmp_path / "noise.png"
    )
    visit.page.locator("#explorer-image input[type=file]").first.set_input_files(tmp_path / "noise.png")
    visit.page.wait_for_selector("#explorer-image img")
    visit.page.locator("#explorer-prompt textarea").fill("Is there a cup?")
    visit.run()
    assert visit.canvas("emma.result.image.name") == "noise"
    assert visit.canvas("emma.result.prompt") == "Is there a cup?"
    assert visit.page.locator(".ev-card").count() == 2
    texts = visit.page.locator(".ev-answer").all_inner_texts()
    assert texts[0].strip() == (visit.canvas("emma.result.models[0].answer").strip() or "(no answer)")


def test_scrubbing_draws_every_layer_without_a_request(shared):
    page = shared.page
    page.locator(".ev-slider").focus()
    page.keyboard.press("Home")
    page.wait_for_timeout(200)
    shared.canvas("emma.stats.steps.clear()")
    count, before = len(shared.requests), shared.canvas("emma.stats.draws")
    steps = shared.canvas("emma.result.models[0].layers.length")
    seen = {page.locator(".ev").get_attribute("data-step")}
    pictures = {shared.panel("map").evaluate("c => c.toDataURL()")}
    page.wait_for_timeout(50)
    for _ in range(steps - 1):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(60)
        seen.add(page.locator(".ev").get_attribute("data-step"))
        pictures.add(shared.panel("map").evaluate("c => c.toDataURL()"))
    assert seen == {str(step) for step in range(steps)}
    assert len(pictures) == steps  # every layer looks different
    assert shared.canvas("emma.stats.draws") > before
    page.mouse.move(*shared.at("map", 0.5, 0.5))
    for _ in range(3):
        page.mouse.wheel(0, -120)
        page.wait_for_timeout(60)
    assert shared.canvas("emma.step") == steps - 4
    inspected = [url for url in shared.requests[count:] if "component_server" not in url]
    assert not inspected


def test_frames_keep_up(shared):
    """Sixty steps one frame after another: none may be dropped for more than a moment."""
    spent = shared.page.evaluate(
        """async () => {
          const slider = document.querySelector('.ev-slider');
          const times = [];
          for (let i = 0; i < 60; i++) {
            const start = performance.now();
            slider.value = String(i % (Number(slider.max) + 1));
            slider.dispatchEvent(new Event('input'));
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            times.push(performance.now() - start);
          }
          return times.sort((a, b) => a - b)[30];
        }"""
    )
    assert spent < 70  # two frames of a software-drawn page on a busy machine


def test_playing_goes_through_the_layers(shared):
    page = shared.page
    page.locator(".ev-slider").focus()
    page.keyboard.press("Home")
    page.get_by_role("button", name="Play").click()
    page.wait_for_timeout(900)
    page.get_by_role("button", name="Pause").click()
    assert shared.canvas("emma.step") >= 3


def test_numbers_on_screen_are_those_of_the_api(shared):
    import skimage

    from emma_viz.metrics import measure
    from emma_viz.session import View, compare

    coffee = Path(skimage.__file__).parent / "data" / "coffee.png"
    comparison = compare(str(coffee))
    page = shared.page
    shared.page.locator(".ev-slider").fill("4")
    page.mouse.click(*shared.at("map", 0.5, 0.5))
    page.mouse.move(5, 5)
    page.wait_for_timeout(200)
    for index, (maps, decoding) in enumerate(zip(comparison.maps(View()), comparison.decodings, strict=True)):
        row = page.locator(f'.ev-row[data-model="{index}"]')

        def number(name, row=row):
            return float(
                re.search(
                    r"-?[\d.]+$", row.locator(f"[data-number={name}]").inner_text().replace("−", "-")
                ).group()
            )

        rows, columns = decoding.grid
        assert number("value") == float(f"{maps.values[4, 0, rows // 2, columns // 2]:.3g}")
        assert number("r") == pytest.approx(float(maps.correlation[4, 0]), abs=0.0051)
        assert number("r2") == pytest.approx(measure(decoding)[4].images[0].r2, abs=0.0051)
        quality = decoding.lens.quality_of(decoding.layers[4])
        assert number("lens") == pytest.approx(quality.r2, abs=0.0051)
        assert shared.canvas(f"emma.result.models[{index}].answer") == decoding.answers[0]
    low, high = comparison.maps(View())[0].limits[0, 0]
    shown = [text.replace("−", "-") for text in page.locator(".ev-legend .ev-limit").all_inner_texts()]
    assert [float(text) for text in shown[:2]] == [float(f"{low:.3g}"), float(f"{high:.3g}")]


def test_map_kinds_scales_and_colours_change_the_picture_and_say_so(shared):
    page = shared.page

    def picture():
        page.wait_for_timeout(120)
        return shared.panel("map").evaluate("c => c.toDataURL()")

    first = picture()
    page.get_by_label("Scale").select_option("per_map")
    assert picture() != first
    assert "each map has its own scale" in page.locator("[data-scale]").inner_text()
    page.get_by_label("Scale").select_option("shared")
    page.get_by_label("Colours").select_option("magma")
    assert picture() != first
    page.get_by_label("Colours").select_option("viridis")
    page.get_by_label("Map", exact=True).select_option("error")
    assert picture() != first
    page.get_by_label("Map", exact=True).select_option("distance")
    assert picture() == first
    highlight = shared.panel("highlight").evaluate("c => c.toDataURL()")
    page.get_by_label("Highlight strength").fill("0.2")
    page.wait_for_timeout(120)
    assert shared.panel("highlight").evaluate("c => c.toDataURL()") != highlight
    page.get_by_label("Highlight strength").fill("0.8")


def test_a_patch_is_locked_inspected_and_read(shared):
    page = shared.page
    page.mouse.click(*shared.at("decoded", 0.4, 0.5))
    page.wait_for_selector(".ev-read")
    title = page.locator(".ev-inspected").inner_text()
    assert re.fullmatch(r"Patch: row \d+, column \d+", title)
    page.mouse.move(*shared.at("decoded", 0.9, 0.9))
    page.wait_for_timeout(150)
    assert page.locator(".ev-inspected").inner_text() == title
    assert page.locator(".ev-strip").count() == 2
    assert page.locator(".ev-path .ev-line").count() == 3  # two models and the true value
    page.keyboard.press("Escape")
    start = time.time()
    page.mouse.click(*shared.at("decoded", 0.2, 0.2))
    page.wait_for_function("document.querySelectorAll('.ev-read').length > 0")
    assert time.time() - start < 1.5


def test_a_box_is_a_region(shared):
    page = shared.page
    page.mouse.move(*shared.at("map", 0.3, 0.3))
    page.mouse.down()
    page.mouse.move(*shared.at("map", 0.5, 0.5), steps=4)
    page.mouse.move(*shared.at("map", 0.6, 0.7), steps=4)
    page.mouse.up()
    assert re.fullmatch(r"Region: \d+ × \d+ patches", page.locator(".ev-inspected").inner_text())
    assert "region=" in page.url


def test_a_word_shows_its_evidence_and_names_the_method(shared):
    page = shared.page
    page.locator(".ev-word").first.click()
    page.wait_for_selector("text=gradient × input")
    assert "Evidence for" in page.locator(".ev-legend").inner_text()
    assert page.locator("[data-paint=map] + figcaption").first.inner_text() == "evidence"
    page.keyboard.press("Escape")
    assert page.locator("[data-paint=map] + figcaption").first.inner_text() == "map"


@pytest.mark.parametrize("form", ["png", "svg", "pdf", "html", "zip"])
def test_the_view_can_be_taken_home(shared, form, tmp_path):
    shared.page.get_by_role("button", name="Save").click()
    with shared.page.expect_download() as download:
        shared.page.locator(f"[data-format={form}]").click()
    download.value.save_as(tmp_path / "kept")
    begins = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF", "html": b"<!doctype", "zip": b"PK"}[form]
    assert (tmp_path / "kept").read_bytes()[:9].lower().startswith(begins.lower())


def test_a_link_restores_the_view(browser, address, shared):
    page = shared.page
    page.locator(".ev-slider").fill("3")
    page.mouse.click(*shared.at("map", 0.4, 0.6))
    page.get_by_label("Colours").select_option("magma")
    page.wait_for_timeout(200)
    link = "#" + page.url.partition("#")[2]
    view = shared.canvas("emma.view")
    page.get_by_label("Colours").select_option("viridis")
    other = Visit(browser, address).open(link)
    other.page.wait_for_selector('.ev[data-state="result"]', timeout=RUN_SECONDS)
    other.page.wait_for_timeout(400)
    assert other.canvas("emma.view") == view
    assert other.canvas("emma.step") == 3
    other.close()


def test_what_cannot_be_read_is_refused_and_the_page_lives_on(visit, tmp_path):
    (tmp_path / "letter.png").write_bytes(b"not a picture")
    visit.page.locator("#explorer-image input[type=file]").first.set_input_files(tmp_path / "letter.png")
    visit.page.wait_for_selector('#explorer-image img[src$="letter.png"]', state="attached")
    visit.page.get_by_role("button", name="Run", exact=True).click()
    visit.page.wait_for_selector(".ev-error")
    assert "letter is not an image" in visit.page.locator(".ev-error").inner_text()
    visit.page.get_by_role("button", name="Close").click()
    visit.example(1)
    visit.run()
    assert visit.canvas("emma.result.image.name") == "cat"


def test_files_of_the_server_cannot_be_read(visit):
    for path in ("/etc/passwd", str(ROOT / "pyproject.toml")):
        reply = visit.page.request.get(f"{visit.address}gradio_api/file={path}")
        assert reply.status in (403, 404)


def test_twenty_visitors_at_once_lose_nothing_and_mix_nothing(browser, address, tmp_path):
    visits = []
    for number in range(20):
        Image.fromarray(np.full((40, 60, 3), 10 * number, np.uint8)).save(tmp_path / f"visitor{number}.png")
        found = Visit(browser, address).open()
        found.page.locator("#explorer-image input[type=file]").first.set_input_files(
            tmp_path / f"visitor{number}.png"
        )
        found.page.wait_for_selector("#explorer-image img")
        visits.append(found)
    for found in visits:
        found.page.get_by_role("button", name="Run", exact=True).click()
    for number, found in enumerate(visits):
        found.page.wait_for_selector('.ev[data-state="result"]', timeout=4 * RUN_SECONDS)
        assert found.canvas("emma.result.image.name") == f"visitor{number}"
        truth = found.page.evaluate(
            "[...document.querySelector('.ev').emma.result.models[0].truth.slice(0, 3)]"
        )
        assert truth == [10 * number] * 3
        found.close()


def test_a_study_opens_without_models(browser, tmp_path, photos):
    from emma_viz.session import capture, decode_study

    capture(photos, ["cobra-pocket", "emma-v1-pocket"], tmp_path / "study")
    decode_study(tmp_path / "study")
    with served("--study", str(tmp_path / "study")) as place:
        found = Visit(browser, place).open()
        found.page.wait_for_selector('.ev[data-state="result"]')
        assert found.canvas("emma.result.image.name") == photos[0].name
        found.page.locator("#explorer-images .thumbnail-item").nth(1).click()
        found.page.wait_for_function(
            "name => document.querySelector('.ev').emma.result.image.name === name", arg=photos[1].name
        )
        assert found.page.locator(".ev-word").count() == 0
        found.close()


def test_narrow_and_dark_pages_hold_together(browser, address):
    found = Visit(browser, address, color_scheme="dark")
    found.page.set_viewport_size({"width": 1024, "height": 768})
    found.open()
    found.example()
    found.run()
    assert found.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    ink = found.page.evaluate("getComputedStyle(document.querySelector('.ev')).color")
    assert min(map(int, re.findall(r"\d+", ink)[:3])) > 180
    box = found.page.locator(".ev-slider").bounding_box()
    assert box["y"] + box["height"] <= 768
    found.close()


def test_the_main_view_needs_no_scrolling(shared):
    fits = shared.page.evaluate(
        """() => {
          const parts = ['.ev-bar', '.ev-rows', '.ev-legend', '.ev-scrub', '.ev-curves'];
          return parts.every((part) => document.querySelector(part).getBoundingClientRect().bottom <= innerHeight);
        }"""
    )
    assert fits
    png = base64.b64encode(shared.page.screenshot()).decode()
    assert len(png) > 10_000
