"""The canvas comes and goes on a page of somebody else, and leaves nothing behind (in Node: tests/render/canvas)."""

import json
import subprocess
from pathlib import Path

import pytest

from emma_viz.render.script import canvas_script, canvas_style
from tests.apps.programs import program

pytestmark = pytest.mark.slow

MADE = Path(__file__).parents[2] / "render" / "canvas"

COUNTING = """
const held = (window.held = new Map());
const more = (what, by) => held.set(what, (held.get(what) || 0) + by);
for (const target of [document, window]) {
  const name = target.constructor.name;
  const on = new Map();
  const [add, remove] = [target.addEventListener, target.removeEventListener];
  target.addEventListener = (type, act, options) => {
    on.set(act, type);
    more(name, 1);
    add.call(target, type, act, options);
  };
  target.removeEventListener = (type, act, options) => {
    if (on.delete(act)) more(name, -1);
    remove.call(target, type, act, options);
  };
}
for (const name of ["ResizeObserver", "MutationObserver"]) {
  const Own = window[name];
  window[name] = class extends Own {
    observe(...given) { more(name, 1); this.on = (this.on || 0) + 1; super.observe(...given); }
    disconnect() { more(name, -(this.on || 0)); this.on = 0; super.disconnect(); }
  };
}
for (const [begin, end, again] of [
  ["setTimeout", "clearTimeout"],
  ["setInterval", "clearInterval", true],
  ["requestAnimationFrame", "cancelAnimationFrame"],
]) {
  const [first, last, on] = [window[begin], window[end], new Set()];
  const ended = (token) => on.delete(token) && more(begin, -1);
  window[begin] = (act, ...given) => {
    const token = first((...told) => { if (!again) ended(token); act(...told); }, ...given);
    on.add(token);
    more(begin, 1);
    return token;
  };
  window[end] = (token) => { ended(token); last(token); };
}
"""
"""Counts, in `held`, what a script holds of a page: listeners, observers, timers, frames."""

MOUNT = """async (payload) => {
  const never = () => new Promise(() => {});
  window.told = [];
  const [progress, cancel] = [async () => ({}), async () => told.push("cancel")];
  const onview = (link) => told.push(link);
  window.host = { words: never, attribute: never, save: never, progress, cancel, onview };
  window.place = document.getElementById("place");
  window.canvas = EmmaCanvas.mount(place, host);
  await canvas.update(payload, { patch: "0", word: "0,0" });
}"""


@pytest.fixture(scope="module")
def sent() -> dict:
    """A payload, as tests/render/canvas has it."""
    command = [program("node"), "-p", "JSON.stringify(require('./made.js').payload())"]
    said = subprocess.run(command, cwd=MADE, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(said.stdout)


@pytest.fixture
def page(browser):
    """A page that has the canvas's script and counts what that holds."""
    wrong = []
    found = browser.new_page(viewport={"width": 1200, "height": 800})
    found.on("pageerror", lambda error: wrong.append(str(error)))
    found.add_init_script(COUNTING)
    found.goto("data:text/html,<body style='margin:0'><div id=place style='height:800px'></div>")
    found.add_style_tag(content=canvas_style())
    found.add_script_tag(content=canvas_script())
    found.wait_for_function("true")
    found.evaluate("held.clear()")  # of what the tool that drives the page holds of it
    yield found
    found.close()
    assert not wrong, wrong


def held(page) -> dict[str, int]:
    return {name: count for name, count in page.evaluate("[...held]") if count}


def test_a_canvas_that_is_destroyed_leaves_nothing(page, sent):
    page.evaluate(MOUNT, sent)
    page.wait_for_function("canvas.stats.draws > 0")
    page.evaluate("document.querySelector('[aria-label=Play]').click()")
    page.evaluate("canvas.say('a sentence')")
    during = held(page)
    assert {"HTMLDocument", "ResizeObserver", "MutationObserver", "setTimeout", "setInterval"} <= set(
        during
    ), during
    page.evaluate("canvas.destroy()")
    assert held(page) == {}
    assert page.evaluate("place.childNodes.length") == 0
    assert page.evaluate("told.at(-1)") == "cancel"  # the question for the word's evidence
    page.evaluate("canvas.destroy()")  # again, without effect
    page.keyboard.press("ArrowRight")
    page.mouse.click(300, 300)
    assert page.evaluate("canvas.update({}).catch((error) => error.message)") == (
        "This canvas has been destroyed; mount another one."
    )
    assert held(page) == {}


def test_fifty_canvases_come_and_go(page, sent):
    page.evaluate("(payload) => { window.payload = payload; }", sent)
    page.evaluate(
        """async () => {
          const place = document.getElementById("place");
          for (let i = 0; i < 50; i++) {
            const canvas = EmmaCanvas.mount(place, { onview: () => {} });
            if (i % 5) canvas.update(payload); // destroyed before its pictures are drawn
            else await canvas.update(payload);
            if (i % 10 === 0) await new Promise((done) => requestAnimationFrame(done));
            canvas.destroy();
          }
          await new Promise((done) => setTimeout(done, 300));
        }"""
    )
    assert held(page) == {}
    assert page.evaluate("place.childNodes.length") == 0
