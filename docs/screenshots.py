"""Pictures of the explorer for README.md and docs/explorer.md: python -m docs.screenshots [--out FOLDER]

Three at 1440 × 900, of the models that ship and the coffee photograph: a result, a word's evidence, and a patch
that is held, in the dark. `--states` makes one of every other state too, for looking at.
"""

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from emma_viz.cli.guard import guarded
from emma_viz.data.tabletop import KIND_INDEX
from emma_viz.files.room import require_writable
from tests.apps.visiting import CHROMIUM, FLAGS, Visit, serving

HERE = Path(__file__).parent
LAYER_OF_A_RESULT = 6


class Studio:
    """A browser, a server's address, and where pictures go."""

    def __init__(self, browser: Browser, address: str, out: Path):
        self.browser, self.address, self.out = browser, address, out

    def visit(self, **options) -> Visit:
        """A page of the server."""
        return Visit(self.browser, self.address, **options).open()

    def result(self, example: int = 0, **options) -> Visit:
        """A page with a result, its slider at the layer that is shown."""
        found = self.visit(**options)
        found.example(example)
        found.run()
        layers = found.canvas("emma.result.models[0].layers")
        found.page.locator(".ev-slider").fill(str(layers.index(LAYER_OF_A_RESULT)))
        return found

    def keep(self, visit: Visit, name: str, *, close: bool = True) -> None:
        """Take the picture; the pointer rests in a corner."""
        visit.page.mouse.move(2, 2)
        visit.drawn()
        visit.page.screenshot(path=self.out / f"{name}.png")
        if close:
            visit.close()


def result(studio: Studio) -> None:
    """Both models' decoded image, map and highlight at one layer."""
    studio.keep(studio.result(), "explorer")


def word(studio: Studio) -> None:
    """A noun of EMMA's answer, and the image tokens that it depends on in both models."""
    visit = studio.result()
    words = visit.page.locator(".ev-word[data-model='1']")
    texts = words.all_inner_texts()
    wanted = next((i for i, text in enumerate(texts) if text in KIND_INDEX), len(texts) // 3)
    words.nth(wanted).click()
    visit.page.wait_for_selector("[data-share]")
    studio.keep(visit, "explorer-word")


def dark(studio: Studio) -> None:
    """A patch that is held in the inspector, in the dark."""
    visit = studio.result(color_scheme="dark")
    visit.page.mouse.click(*visit.at("map", 0.5, 0.28))
    visit.page.wait_for_selector(".ev-read")
    studio.keep(visit, "explorer-dark")


def others(studio: Studio) -> None:
    """Every other state of the page."""
    visit = studio.visit()
    visit.page.wait_for_selector(".ev-note")
    studio.keep(visit, "state-empty", close=False)
    visit.example()
    visit.press_run()
    visit.page.wait_for_selector(".ev-progress")
    studio.keep(visit, "state-loading", close=False)
    visit.result()
    visit.page.locator("#explorer-prompt textarea").fill("")
    visit.press_run()
    visit.page.wait_for_selector(".ev-error")
    studio.keep(visit, "state-error")
    visit = studio.result(3, width=1024, height=768)
    visit.page.mouse.click(*visit.at("map", 0.5, 0.28))
    visit.page.wait_for_selector(".ev-read")
    studio.keep(visit, "state-narrow")


SHOWN: tuple[Callable[[Studio], None], ...] = (result, word, dark)


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "images", help="(default: docs/images)")
    parser.add_argument("--states", action="store_true", help="also a picture of every other state")
    args = parser.parse_args()
    require_writable(args.out, folder=True)
    args.out.mkdir(parents=True, exist_ok=True)
    chromium = next(path for name in CHROMIUM if (path := shutil.which(name)))
    with serving() as (address, _), sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=chromium, args=FLAGS)
        studio = Studio(browser, address, args.out)
        for make in (*SHOWN, others) if args.states else SHOWN:
            make(studio)
        browser.close()


if __name__ == "__main__":
    sys.exit(guarded(main, program="python -m docs.screenshots"))
