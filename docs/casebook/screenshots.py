"""Pictures of the casebook for README.md and docs/casebook-page.md: python -m docs.casebook.screenshots [--out FOLDER]

Three, 1440 wide, of the casebook that ships: the gallery, a case with its canvas, and the figures with the tables of a
benchmark. `--every` makes each page in light and dark at three widths, and what is exported, too, for looking at.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from emma_viz.cases.casebook import Casebook
from emma_viz.cases.exchange import bundled_cases, import_cases
from emma_viz.cases.filters import CaseFilter
from emma_viz.cli.guard import guarded
from emma_viz.files.room import require_writable
from tests.apps.casebook.casebook_server import serving_casebook
from tests.apps.visiting import ALL_FRAMES, CHROMIUM, FLAGS, Visit

IMAGES = Path(__file__).parents[1] / "images"
SIZES = {1440: 1000, 1024: 768, 390: 844}
"""Width → height."""
WHOLE = "numbers"
"""In a view's name: the tables of a whole benchmark are chosen on its page."""
_STILL = """() => {
  const app = document.querySelector("[data-testid=stApp]");
  return app?.dataset.testScriptState === "notRunning" && !app.querySelector("[data-stale=true]");
}"""


def views(ids: list[str]) -> Iterator[tuple[str, str]]:
    """(name, address) of every page."""
    yield "gallery", ""
    yield "figures", "figures?all=yes"
    yield f"figures-{WHOLE}", "figures?all=yes"
    yield "case", f"case?id={ids[0]}"
    yield "case-described", f"case?id={ids[-1]}&all=yes"
    yield "pair", f"pair?id={ids[0]}&other={ids[1]}"
    yield "nothing", "?text=no+such+words"
    yield "trouble", "case?id=nobody"


def shown(page: Page, address: str, name: str) -> Page:
    """A page, when all of it stands."""
    page.goto(address)
    page.wait_for_function(_STILL)
    if name.endswith(WHOLE):
        page.get_by_label("Numbers of the whole benchmark").click()
        page.get_by_role("option", name="tabletop").click()
        page.locator(".cb-wide").first.wait_for()
        page.wait_for_function(_STILL)
    if name.startswith("case"):
        page.wait_for_selector(".ev[data-state=result]")
    for plot in page.locator("[data-testid=stPlotlyChart]").all():
        plot.locator(".main-svg").first.wait_for()
    page.mouse.move(2, 2)
    page.wait_for_timeout(700)  # the plots' and the canvas's own movement
    return page


def whole(page: Page, path: Path) -> None:
    """A picture of a page from top to bottom: Streamlit scrolls a part of it, so the window is made as high as that."""
    size = page.viewport_size
    assert size is not None
    high = page.evaluate(
        "() => Math.max(...[...document.querySelectorAll('[data-testid=stMain], [data-testid=stSidebarContent]')]"
        ".map((each) => each.scrollHeight))"
    )
    page.set_viewport_size({"width": size["width"], "height": min(max(high, size["height"]), 6000)})
    page.wait_for_timeout(700)
    page.screenshot(path=path)
    page.set_viewport_size(size)


def every(browser: Browser, address: str, ids: list[str], out: Path) -> None:
    """Each page in each look, and what is exported."""
    for scheme in ("light", "dark"):
        for width, height in SIZES.items():
            visit = Visit(
                browser, address, width=width, height=height, frames=ALL_FRAMES, color_scheme=scheme
            )
            for name, path in views(ids):
                whole(shown(visit.page, address + path, name), out / f"{name}-{scheme}-{width}.png")
            visit.context.close()
    visit = Visit(browser, address, frames=ALL_FRAMES)
    for name, asked in (("case", f"id={ids[0]}"), ("cases", "all=yes")):
        for ending in ("pdf", "html"):
            reply = visit.context.request.get(f"{address}documents/{name}.{ending}?{asked}")
            (out / f"{name}.{ending}").write_bytes(reply.body())
    visit.context.close()


def pictures(browser: Browser, address: str, ids: list[str], out: Path) -> None:
    """The three that are shown in the documentation."""
    visit = Visit(browser, address, width=1440, height=1000, frames=ALL_FRAMES)
    shown(visit.page, address, "gallery").screenshot(path=out / "casebook-gallery.png")
    for name, path, high in (
        ("case", f"case?id={ids[0]}", 1900),
        (f"figures-{WHOLE}", "figures?all=yes", 1600),
    ):
        page = shown(visit.page, address + path, name)
        page.set_viewport_size({"width": 1440, "height": high})
        page.wait_for_timeout(700)
        page.screenshot(path=out / f"casebook-{name.partition('-')[0]}.png")
        page.set_viewport_size({"width": 1440, "height": 1000})
    visit.context.close()


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=IMAGES, help="(default: docs/images)")
    parser.add_argument(
        "--every", action="store_true", help="every page, instead of the three that are shown"
    )
    args = parser.parse_args()
    require_writable(args.out, folder=True)
    args.out.mkdir(parents=True, exist_ok=True)
    chromium = next(path for name in CHROMIUM if (path := shutil.which(name)))
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) / "pocket.db"
        with Casebook.open(where) as casebook:
            import_cases(casebook, bundled_cases())
            first = casebook.ids(CaseFilter(rule="models-disagree"))
            ids = [*first[:2], *casebook.ids(CaseFilter(tags=("figure 5",)))]
        with serving_casebook(str(where)) as (address, _), sync_playwright() as tool:
            browser = tool.chromium.launch(executable_path=chromium, args=FLAGS)
            (every if args.every else pictures)(browser, address, ids, args.out)
            browser.close()


if __name__ == "__main__":
    sys.exit(guarded(main, program="python -m docs.casebook.screenshots"))
