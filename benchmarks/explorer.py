"""Measure the explorer with the models that ship: time to a result, to an inspected patch, to a layer; memory.

    OMP_WAIT_POLICY=passive python -m benchmarks.explorer --runs 20
    OMP_WAIT_POLICY=passive python -m benchmarks.explorer --runs 200       # memory over 200 runs
    OMP_WAIT_POLICY=passive python -m benchmarks.explorer --pages 40       # and over 40 reloads and 40 results

A browser does what a person does, on a server of its own. The first run, which loads the models, is reported by
itself. Times are of the wall clock: on a busy machine they say more about the machine.
"""

import argparse
import shutil
import statistics
import sys

from playwright.sync_api import sync_playwright

from emma_viz.cli.guard import guarded
from tests.apps.visiting import ALL_FRAMES, CHROMIUM, FLAGS, Visit, resident, serving

RUN = """async () => {
  const emma = document.querySelector('.ev').emma;
  const [before, start] = [emma.shown, performance.now()];
  document.querySelector('#explorer-run').click();
  const done = () => emma.shown > before && document.querySelector('.ev').dataset.state === 'result';
  while (!done()) await new Promise((next) => requestAnimationFrame(next));
  await new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next)));
  return performance.now() - start;
}"""
"""From a click on Run to all maps on the screen, in milliseconds."""

PATCH = """async ([x, y]) => {
  const panel = document.querySelector("canvas[data-paint='decoded']");
  const [box, start] = [panel.getBoundingClientRect(), performance.now()];
  const at = { clientX: box.x + x * box.width, clientY: box.y + y * box.height, bubbles: true, button: 0 };
  panel.dispatchEvent(new PointerEvent('pointerdown', at));
  panel.dispatchEvent(new PointerEvent('pointerup', at));
  const seen = () => document.querySelectorAll('.ev-read').length === 8;
  do await new Promise((next) => requestAnimationFrame(next)); while (!seen());
  return performance.now() - start;
}"""
"""From a click on a patch to its pixels, curve and words, in milliseconds."""

STEPS = """async () => {
  const slider = document.querySelector('.ev-slider');
  const frame = window.requestAnimationFrame.bind(window);
  const [script, drawn] = [[], []];
  let spent = 0;
  const timed = (work) => (now) => {
    const start = performance.now();
    work(now);
    spent += performance.now() - start;
  };
  window.requestAnimationFrame = (work) => frame(timed(work));
  for (let i = 0; i < 120; i++) {
    const start = performance.now();
    spent = 0;
    slider.value = String(i % (Number(slider.max) + 1));
    slider.dispatchEvent(new Event('input'));
    spent += performance.now() - start;
    await new Promise((next) => frame(next));
    script.push(spent);
    drawn.push(performance.now() - start);
  }
  window.requestAnimationFrame = frame;
  return [script, drawn];
}"""
"""Of 120 steps of the slider, one a frame: milliseconds of the page's script, and until the frame after it."""


def summary(times: list[float]) -> str:
    """Median and 95th percentile."""
    ordered = sorted(times)
    return (
        f"median {statistics.median(ordered):.0f} ms, 95 % {ordered[int(0.95 * (len(ordered) - 1))]:.0f} ms"
    )


def at_quarters(memory: list[float]) -> str:
    """Megabytes at the beginning, after a quarter, a half, three quarters, and at the end."""
    marks = sorted({quarter * (len(memory) - 1) // 4 for quarter in range(5)})
    return ", ".join(f"{memory[i]:.0f} MB after {i}" for i in marks)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20, help="runs after the first (default: %(default)s)")
    parser.add_argument("--patches", type=int, default=20, help="patches to inspect (default: %(default)s)")
    parser.add_argument(
        "--pages", type=int, default=5, help="reloads of a link, and further results (default: %(default)s)"
    )
    args = parser.parse_args()
    chromium = next(path for name in CHROMIUM if (path := shutil.which(name)))
    with serving() as (address, process), sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=chromium, args=FLAGS)
        visit = Visit(browser, address, frames=ALL_FRAMES).open()
        visit.example()
        print(f"first run, models loaded: {visit.page.evaluate(RUN):.0f} ms", flush=True)
        runs, memory = [], [resident(process.pid)]
        for number in range(args.runs):
            visit.example(number % 6)
            runs.append(visit.page.evaluate(RUN))
            memory.append(resident(process.pid))
        print(f"click on Run to all maps: {summary(runs)}, {len(runs)} runs")
        # Each patch once: a click on one that is locked lets it go.
        rows, columns = visit.canvas("emma.result.models[0].grid")
        chosen = [divmod(int(i * rows * columns / args.patches), columns) for i in range(args.patches)]
        places = [((column + 0.5) / columns, (row + 0.5) / rows) for row, column in chosen]
        patches = [visit.page.evaluate(PATCH, list(place)) for place in places]
        print(f"click on a patch to pixels and words: {summary(patches)}, {len(patches)} patches")
        script, drawn = visit.page.evaluate(STEPS)
        print(f"a step of the slider: script {summary(script)}; drawn {summary(drawn)}")
        print(f"memory over runs: {at_quarters(memory)}", flush=True)
        link = visit.link()
        # First the same question each time, then one that no other page has asked: its result is kept for its link.
        for what, more in (("reloads of a link", ""), ("results more", "&prompt=What%3F%20{}")):
            memory = [resident(process.pid)]
            for number in range(args.pages):
                page = Visit(browser, address, frames=ALL_FRAMES).open("#" + link + more.format(number))
                page.result()
                page.close()
                memory.append(resident(process.pid))
            print(f"memory over {what}: {at_quarters(memory)}", flush=True)
        visit.close()
        browser.close()


if __name__ == "__main__":
    sys.exit(guarded(main, program="python -m benchmarks.explorer"))
