"""How long a casebook of 10 000 cases takes to open, filter and search: python -m benchmarks.casebook [--cases N]

The cases are generated: two models, four benchmarks, answers with probabilities, evidence at four layers of each, and
an image for every twentieth. Prints medians and the slowest of each, in milliseconds, and how many cases pass: first
of the queries behind a page, then, in a browser on a server of its own, of the pages themselves. A page with its
canvas is measured from a click on its card, or the call for its address, to the canvas having drawn, on cases of the
models that ship; a filter from the key that ends it to the last change on the page. Times are of the wall clock: on a
busy machine they say more about the machine.
"""

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from apps.casebook.permalinks import EVIDENCE, evidence_text
from emma_viz.cases.case import KNOCK_OUT, PRESENCE, CaseAnswer, CaseRecord, MeasuredEvidence, Said
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.filters import AnswerFilter, CaseFilter, EvidenceFilter
from emma_viz.cases.pictures import case_picture
from emma_viz.cli.guard import guarded
from tests.apps.casebook.casebook_server import serving_casebook
from tests.apps.visiting import ALL_FRAMES, CHROMIUM, FLAGS, Visit

_MODELS = ("cobra-3b", "emma-3b")
_POCKETS = ("cobra-pocket", "emma-v1-pocket")
"""Answer every hundredth question: their maps are drawn."""
_OBJECTS = ("cup", "dog", "chair", "person", "car", "book", "clock", "bottle")
_BENCHMARKS = ("pope", "amber", "mme", "hallusionbench")
_PAGE = 24
_CALM = 400
"""Milliseconds without a change after which a page is taken to stand still."""

_SOON = """
const soon = (done) => done() || new Promise((next) => requestAnimationFrame(next)).then(() => soon(done));
const drawn = () => {
  const emma = document.querySelector(".ev[data-state=result]")?.emma;
  return emma?.shown > 0 && emma.stats.steps.size > 0;
};
const app = () => document.querySelector("[data-testid=stApp]");
const still = () => app()?.dataset.testScriptState === "notRunning" && !app().querySelector("[data-stale=true]");
"""
CALLED = f"async () => {{ {_SOON} await soon(drawn); return performance.now(); }}"
"""Milliseconds from the call for a page to its canvas having drawn."""
SETTLED = f"async () => {{ {_SOON} await soon(still); }}"
FILTERED = f"""async ([name, part]) => {{ {_SOON}
  let last = performance.now();
  const seen = () => requestAnimationFrame(() => {{ last = performance.now(); }});
  const watch = new MutationObserver(seen);
  watch.observe(document, {{ subtree: true, childList: true, characterData: true, attributes: true }});
  const named = () => new URLSearchParams(location.search).get(name)?.includes(part);
  await soon(() => named() && still() && performance.now() - last > {_CALM});
  watch.disconnect();
  return last;
}}"""
"""Milliseconds to the frame after the last change on the gallery, under an address whose filter has a part."""
OPENED = f"""async (number) => {{ {_SOON}
  const start = performance.now();
  [...document.querySelectorAll("a")].filter((each) => each.textContent.trim() === "Open the case")[number].click();
  await soon(drawn);
  return performance.now() - start;
}}"""
"""Milliseconds from a click on one of the cards to the case's canvas having drawn."""


def generated(index: int, random: np.random.Generator, image: str) -> CaseRecord:
    """One case."""
    thing = str(random.choice(_OBJECTS))
    truth = "yes" if random.random() < 0.5 else "no"
    answers, evidence = [], []
    for model in _POCKETS if index % 100 == 0 else _MODELS:
        p_yes = float(random.random())
        said: Said = "yes" if p_yes >= 0.5 else "no"
        answers.append(
            CaseAnswer(
                model=model,
                text=f"{said.title()}, there is {'a' if said == 'yes' else 'no'} {thing} in the image.",
                said=said,
                right=said == truth,
                scorer="pope",
                p_yes=p_yes,
                p_no=1 - p_yes,
            )
        )
        for layer in (0, 16, 32, 63):
            evidence.append(
                MeasuredEvidence(
                    name=PRESENCE, model=model, layer=layer, value=float(random.random()), control=0.7
                )
            )
        evidence.append(
            MeasuredEvidence(
                name=KNOCK_OUT, model=model, layer=-1, value=float(abs(random.normal())), control=1.0
            )
        )
    return CaseRecord(
        image=image,
        image_name=f"COCO_val2014_{index:012d}.jpg",
        prompt=f"Is there a {thing} in image {index}?",
        truth=truth,
        object=thing,
        benchmark=_BENCHMARKS[index % len(_BENCHMARKS)],
        split=("random", "popular", "adversarial")[index % 3],
        row=str(index),
        category=f"category {index % 20}",
        answers=tuple(answers),
        evidence=tuple(evidence),
    )


def timed(what: Callable[[], int], repeats: int) -> tuple[float, float, int]:
    """(median, slowest, what came of it), in milliseconds."""
    times = []
    found = 0
    for _ in range(repeats):
        began = time.perf_counter()
        found = what()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times), max(times), found


def main() -> None:
    """Generate, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--casebook", help="an empty database by its URL (default: a new SQLite file)")
    parser.add_argument(
        "--pages",
        type=int,
        default=9,
        help="cases opened and filters set in the browser, at most 19; 0: no browser",
    )
    args = parser.parse_args()
    random = np.random.default_rng(0)
    with (
        tempfile.TemporaryDirectory() as folder,
        Casebook.open(args.casebook or Path(folder) / "cases.db") as casebook,
    ):
        began = time.perf_counter()
        fill(casebook, args.cases, random)
        print(
            f"{args.cases} cases added in {time.perf_counter() - began:.1f} s; {platform.platform()}, "
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        measure_filters(casebook, args.repeats)
        if args.pages:
            measure_pages(casebook, args.casebook or str(Path(folder) / "cases.db"), args.pages)


def fill(casebook: Casebook, cases: int, random: np.random.Generator) -> None:
    """Add the generated cases and their pictures."""
    images = []
    for _ in range(max(1, cases // 20)):
        noise = random.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        picture = case_picture(Image.fromarray(noise).resize((320, 240)))
        casebook.keep_picture(picture)
        images.append(picture.hash)
    for start in range(0, cases, 1000):
        casebook.add(
            [generated(i, random, images[i % len(images)]) for i in range(start, min(cases, start + 1000))]
        )
    for id in casebook.ids(count=50):
        casebook.write(id, "verdict", "miss", author="benchmark")
        casebook.write(id, "note", "the handle is hidden", author="benchmark")


def measure_filters(casebook: Casebook, repeats: int) -> None:
    """Print a line for each way to look."""

    def page(wanted: CaseFilter) -> Callable[[], int]:
        def look() -> int:
            found = casebook.cases(casebook.ids(wanted, count=_PAGE))
            casebook.thumbnails([case.record.image for case in found])
            casebook.facets()
            return casebook.count(wanted)

        return look

    wrong = AnswerFilter(model=_MODELS[0], right=False, least_confidence=0.9)
    saw = EvidenceFilter(name=PRESENCE, model=_MODELS[1], layer=63, beats_control=True)
    print(
        f"{'a page of ' + str(_PAGE) + ' with counts and thumbnails':44s} {'median':>8s} {'slowest':>8s}  passing"
    )
    for name, wanted in (
        ("all", CaseFilter()),
        ("what a rule found", CaseFilter(mined=True)),
        ("one rule", CaseFilter(rule="confident-and-wrong")),
        ("one benchmark and split", CaseFilter(benchmark="pope", split="random")),
        ("a sure mistake of one model", CaseFilter(answers=(wrong,))),
        ("evidence above its control", CaseFilter(evidence=(saw,))),
        ("words in a question", CaseFilter(text="image 77")),
        ("words in a note", CaseFilter(text="handle is hidden")),
        ("all, the surest mistake first", CaseFilter(sort="surest-mistake")),
        ("all, by the models' gap", CaseFilter(sort="gap")),
        ("a verdict", CaseFilter(verdict="miss")),
    ):
        median, slowest, found = timed(page(wanted), repeats)
        print(f"{name:44s} {median:8.0f} {slowest:8.0f}  {found}")
    first = casebook.ids(count=1)[0]
    median, slowest, _ = timed(lambda: len(casebook.case(first).history), repeats)
    print(f"{'one case':44s} {median:8.0f} {slowest:8.0f}")


def measure_pages(casebook: Casebook, where: str, pages: int) -> None:
    """Print a line for each way to open a page, in a browser."""
    ids = casebook.ids(CaseFilter(answers=(AnswerFilter(model=_POCKETS[0]),)))
    chromium = next(path for name in CHROMIUM if (path := shutil.which(name)))
    with serving_casebook(where) as (address, _), sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=chromium, args=FLAGS)
        visit = Visit(browser, address, frames=ALL_FRAMES)

        def called(id: str) -> float:
            visit.page.goto(f"{address}case?id={id}&all=yes")
            return visit.page.evaluate(CALLED)

        def opened(number: int) -> float:
            visit.page.goto(f"{address}?all=yes&model={_POCKETS[0]}")
            visit.page.get_by_text("Open the case").nth(pages - 1).wait_for()
            visit.page.evaluate(SETTLED)
            return visit.page.evaluate(OPENED, number)

        print(f"{'the first case of a new server, models loaded':44s} {called(ids[-1]):8.0f}", flush=True)
        _line("a card's case, that nobody opened before", [opened(number) for number in range(pages)])
        _line("a card's case, that was open before", [opened(number) for number in range(pages)])
        _line("the address of a case, that was open before", [called(each) for each in ids[:pages]])
        measure_filtering(visit.page, address, pages)
        visit.context.close()
        browser.close()


def measure_filtering(page: Page, address: str, times: int) -> None:
    """Print a line for each kind of filter that is changed on the page, from the key to the new cards."""

    def changed(label: str, value: str, name: str) -> float:
        page.get_by_label(label, exact=True).fill(value)
        start = page.evaluate("performance.now()")
        page.get_by_label(label, exact=True).press("Enter")
        return page.evaluate(FILTERED, [name, value]) - start

    page.goto(f"{address}?all=yes")
    page.get_by_text("Open the case").first.wait_for()
    page.evaluate(SETTLED)
    _line("a filter by words", [changed("Words", f"image {70 + number}", "text") for number in range(times)])
    saw = EvidenceFilter(name=PRESENCE, model=_MODELS[1], layer=63, beats_control=True)
    page.goto(f"{address}?{urlencode({'all': 'yes', EVIDENCE: evidence_text([saw])})}")
    page.get_by_text("Open the case").first.wait_for()
    page.evaluate(SETTLED)
    bounds = [f"0.{71 + number}" for number in range(times)]
    _line("a filter by evidence", [changed("at least", each, EVIDENCE) for each in bounds])


def _line(name: str, times: list[float]) -> None:
    quarter, _, three = statistics.quantiles(times, n=4)
    print(
        f"{name:44s} {statistics.median(times):8.0f} {max(times):8.0f}  middle half {quarter:.0f} to {three:.0f}, "
        f"{len(times)} times",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(guarded(main, program="python -m benchmarks.casebook"))
