"""Scrub the canvases of the saved notebooks in a browser, without a server: frames a second, and how large they are.

    OMP_WAIT_POLICY=passive python -m benchmarks.notebooks

Each output is opened as a page of its own, as it stands in the file. Times are of the wall clock: on a busy machine
they say more about the machine, whose load is printed beside them.
"""

import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import nbformat
from playwright.sync_api import Browser, sync_playwright

from benchmarks.explorer import STEPS, summary
from emma_viz.cli.guard import guarded
from tests.apps.visiting import ALL_FRAMES, CHROMIUM, FLAGS, Visit

NOTEBOOKS = Path(__file__).resolve().parent.parent / "examples" / "notebooks"
DRAWN = "document.querySelector('.ev')?.dataset.state === 'result' && document.querySelector('.ev').emma.stats.draws"


def canvases(path: Path) -> list[str]:
    """The outputs of a notebook that hold a canvas, as HTML."""
    cells = nbformat.read(path, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    found = [output.get("data", {}).get("text/html", "") for output in outputs]
    return [html for html in found if "<iframe" in html]


def scrub(browser: Browser, html: str, folder: Path) -> tuple[list[float], list[float]]:
    """Milliseconds of the page's script, and to the next frame, of 120 steps of the slider, one a frame."""
    page = folder / "page.html"
    page.write_text(f"<!doctype html><meta charset='utf-8'>{html}", encoding="utf-8")
    visit = Visit(browser, page.as_uri(), frames=ALL_FRAMES)
    visit.page.goto(page.as_uri())
    frame = visit.page.wait_for_selector("iframe").content_frame()
    assert frame is not None
    frame.wait_for_function(DRAWN)
    measured = frame.evaluate(STEPS)
    visit.close()
    return measured


def main() -> None:
    """Measure and print."""
    chromium = next(path for name in CHROMIUM if (path := shutil.which(name)))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=chromium, args=FLAGS)
        for path in sorted(NOTEBOOKS.glob("*.ipynb")):
            for html in canvases(path):
                script, drawn = scrub(browser, html, Path(folder))
                rate = 1000 / statistics.mean(drawn)
                print(
                    f"{path.stem}: {len(html.encode()) / 1e6:.2f} MB, {rate:.1f} frames a second; "
                    f"script {summary(script)}; drawn {summary(drawn)}; load {os.getloadavg()[0]:.1f}"
                )
        browser.close()


if __name__ == "__main__":
    sys.exit(guarded(main, program="python -m benchmarks.notebooks"))
