"""The explorer as a process of its own, and visits to it with a browser."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
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
PATIENCE = 1000 * int(os.environ.get("BROWSER_PATIENCE", "120"))
"""Milliseconds that a page may take to answer; BROWSER_PATIENCE, in seconds, is for machines that do much else."""
RUN_PATIENCE = 4 * PATIENCE
"""Milliseconds that the models may take, the first load of them included."""


@contextmanager
def started(
    module: str, *options: str, log: Path | None = None, **environment: str
) -> Iterator[subprocess.Popen]:
    """A program as a process of its own; what it says on stderr goes to `log`. It has to end when it is told to.

    Where a test fails within this block, the program is told to say where each of its threads stands, and what it said
    is printed. A server that several tests share is not told of their failures.
    """
    said = log.open("w+") if log else tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed below)
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-m", module, *options],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=said,
    )
    failed = True
    try:
        yield process
        process.terminate()
        process.wait(PATIENCE / 1000)
        failed = False
    finally:
        if failed:
            process.send_signal(signal.SIGABRT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE / 1000)
            process.kill()
            process.wait()
            said.seek(0)
            print(f"{module} said, and ended in {process.returncode}:\n{said.read()}")
        said.close()


@contextmanager
def serving(*options: str, log: Path | None = None) -> Iterator[tuple[str, subprocess.Popen]]:
    """The explorer on a free port; gives its address and its process. What it says on stderr goes to `log`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # As many threads as the tests have: their number decides the order of sums, and so the last bits.
    with started("apps.explorer", "--port", str(port), *options, log=log, OMP_NUM_THREADS="1") as process:
        address = f"http://127.0.0.1:{port}/"
        while not _answers(address):
            assert process.poll() is None, "the explorer did not start"
            time.sleep(0.2)
        yield address, process


def resident(pid: int) -> float:
    """Megabytes that a process holds in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS"))


def _answers(address: str) -> bool:
    """Whether a page is served there; an open port alone may be Gradio's own search for one."""
    try:
        with urllib.request.urlopen(address, timeout=10) as reply:
            return reply.status == 200
    except OSError:
        return False


FEW_FRAMES = """
window.drawnSoon = requestAnimationFrame.bind(window);
let within = 0, later = new Set();
window.requestAnimationFrame = (draw) => {
  const call = (now) => {
    within += 1;
    try { draw(now); } finally { within -= 1; }
  };
  if (!within) return drawnSoon(call);
  const token = -1 - setTimeout(() => { later.delete(token); call(performance.now()); }, 200);
  later.add(token);
  return token;
};
const cancel = cancelAnimationFrame.bind(window);
window.cancelAnimationFrame = (token) => later.delete(token) ? clearTimeout(-1 - token) : cancel(token);
"""
"""A page of Gradio draws frame after frame for ever, idle or not: a frame that is asked for within a frame comes 200 ms
later, as otherwise the pages that tests keep open would be the load."""


ASKED_TOO_LATE = re.compile(r"status of 404 .*/gradio_api/upload_progress\?upload_id=")

ALL_FRAMES = "window.drawnSoon = requestAnimationFrame.bind(window);"


class Visit:
    """One page, with a record of everything that must not happen on it."""

    def __init__(
        self, browser, address: str, *, width: int = 1440, height: int = 900, frames=FEW_FRAMES, **options
    ):
        self.address, self.wrong, self.requests, self._late = address, [], [], 0
        self.context = browser.new_context(viewport={"width": width, "height": height}, **options)
        self.context.set_default_timeout(PATIENCE)
        self.context.add_init_script(frames)
        self.page = self.context.new_page()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", self._request)

    def _said(self, said) -> None:
        if said.type != "error":
            return
        wrong = f"{said.text} {said.location.get('url', '')}".strip()  # with the address that it is about
        # Gradio asks how far an upload is, and logs the answer when the upload was over before the question came.
        if ASKED_TOO_LATE.search(wrong):
            self._late += 1
        elif self._late and wrong.startswith("Response http"):
            self._late -= 1
        else:
            self.wrong.append(wrong)

    def _request(self, request) -> None:
        if request.url == self.address + "gradio_api/app_id":
            return  # the page asks every few seconds whether the server lives
        self.requests.append(request.url)
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.wrong.append(f"outside: {request.url}")

    def open(self, link: str = "") -> "Visit":
        """Go to the page, or to a link of it."""
        self.page.goto(self.address + link)
        self.page.wait_for_selector(".ev")
        return self

    def example(self, number: int = 0) -> None:
        """Take one of the images that ship."""
        name = self.page.locator("#explorer-examples img").nth(number).get_attribute("alt")
        self.page.locator("#explorer-examples .thumbnail-item").nth(number).click()
        self.page.wait_for_selector(f'#explorer-image img[src$="{quote(name)}.png"]')

    def upload(self, path: Path) -> None:
        """Bring a file."""
        self.page.locator("#explorer-image input[type=file]").first.set_input_files(path)
        self.page.wait_for_selector(f'#explorer-image img[src$="{quote(path.name)}"]', state="attached")

    def press_run(self) -> None:
        """Press Run, and wait for nothing."""
        self.page.get_by_role("button", name="Run", exact=True).click()

    def run_and_stop(self) -> None:
        """Press Run, and Stop as soon as it is there; from within the page, where the run cannot end in between."""
        self.page.evaluate(
            """async () => {
              document.querySelector("#explorer-run").click();
              while (!document.body.classList.contains("explorer-busy")) await new Promise((next) => setTimeout(next));
              document.querySelector("#explorer-stop").click();
            }"""
        )

    def run(self) -> None:
        """Press Run, and wait for the new result to be drawn."""
        before = self.canvas("emma.shown")
        self.page.evaluate("document.querySelector('.ev-error')?.classList.add('seen')")
        self.press_run()
        self.result(before)

    def result(self, before: int = 0) -> None:
        """Wait for a result after a number of them, or for a failure in its place, which ends the test."""
        ended = self.page.wait_for_function(
            """before => {
              const frame = document.querySelector('.ev');
              const failure = frame.querySelector('.ev-error:not(.seen) p');
              if (failure) return failure.textContent;
              return frame.emma.shown > before && frame.dataset.state === 'result' && frame.emma.stats.steps.size;
            }""",
            arg=before,
            timeout=RUN_PATIENCE,
        ).json_value()
        assert not isinstance(ended, str), ended

    def canvas(self, expression: str):
        """The value of an expression about `emma`, the canvas."""
        return self.page.evaluate(
            f"(() => {{ const emma = document.querySelector('.ev').emma; return {expression}; }})()"
        )

    def drawn(self) -> None:
        """Wait until what was asked of the canvas has been drawn."""
        self.page.evaluate("new Promise((done) => drawnSoon(() => drawnSoon(done)))")

    def link(self) -> str:
        """The address's link; it follows the view when that has come to rest."""
        self.page.wait_for_function(
            "() => location.hash.slice(1) === EmmaCanvas.core.toLink(document.querySelector('.ev').emma.view)"
        )
        return self.page.url.partition("#")[2]

    def panel(self, name: str, model: int = 0):
        """The canvas of a panel."""
        return self.page.locator(f'canvas[data-paint="{name}"][data-model="{model}"]')

    def picture(self, name: str, model: int = 0) -> str:
        """What a panel shows, as an address."""
        self.drawn()
        return self.panel(name, model).evaluate("panel => panel.toDataURL()")

    def at(self, name: str, x: float, y: float, model: int = 0) -> tuple[float, float]:
        """The place on the page of a point of a panel, in fractions of it."""
        box = self.panel(name, model).bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def close(self) -> None:
        """Leave, and hold that nothing went wrong meanwhile."""
        self.context.close()
        assert not self.wrong, self.wrong
