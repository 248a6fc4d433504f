"""What notebooks show, in the frames that Jupyter, VS Code and Colab put it into."""

from html import escape

import pytest

from tests.apps.axe import SCRIPT
from tests.apps.programs import library
from tests.apps.visiting import ALL_FRAMES, Visit

pytestmark = pytest.mark.slow

DRAWN = """() => {
  const frame = document.querySelector(".ev");
  return frame?.dataset.state === "result" && frame.emma.stats.draws;
}"""


@pytest.fixture(scope="module")
def visit(browser, tiny_comparison, tmp_path_factory):
    """An output in a page, as Jupyter has it, and one in a sandboxed frame of that page, as VS Code and Colab do."""
    output = tiny_comparison._repr_mimebundle_()["text/html"]
    rights = "allow-scripts allow-downloads allow-popups"
    inner = f'<iframe sandbox="{rights}" srcdoc="{escape(output)}" width="700"></iframe>'
    path = tmp_path_factory.mktemp("notebook") / "page.html"
    path.write_text(f"<!doctype html><meta charset='utf-8'>{output}{inner}", encoding="utf-8")
    visit = Visit(browser, path.as_uri(), frames=ALL_FRAMES)
    visit.page.goto(path.as_uri())
    yield visit
    visit.close()


def frames(visit) -> list:
    """The canvas's two frames, drawn: in the page, and within a frame of it."""
    outer, inner = visit.page.main_frame.child_frames[:2]
    # On a busy machine the page is loaded before the inner frame has made its own.
    found = [outer, inner.wait_for_selector("iframe").content_frame()]
    for each in found:
        each.wait_for_function(DRAWN)
    return found


def test_both_frames_scrub_without_a_server_and_without_links(visit):
    for frame in frames(visit):
        before, draws = frame.evaluate(
            "(({ step, stats }) => [step, stats.draws])(document.querySelector('.ev').emma)"
        )
        frame.locator(".ev-slider").fill(str(int(before == 0)))
        frame.wait_for_function("draws => document.querySelector('.ev').emma.stats.draws > draws", arg=draws)
        # The canvas tells the page of its view within 150 ms of its drawing: a timer that is set now ends later.
        frame.evaluate("new Promise((done) => setTimeout(done, 300))")
        assert frame.evaluate("document.querySelector('.ev').emma.step") != before
        assert frame.get_by_role("button", name="Copy link").count() == 0
        assert frame.evaluate("location.href") == "about:srcdoc"
    assert visit.wrong == []


def test_a_frame_shuts_nobody_out(visit):
    for dark in (False, True):
        visit.page.emulate_media(color_scheme="dark" if dark else "light")
        for frame in frames(visit):
            frame.wait_for_function("dark => document.body.classList.contains('dark') === dark", arg=dark)
            frame.evaluate(library(SCRIPT).read_text("utf-8"))
            found = frame.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
            assert [(each["id"], each["nodes"][0]["target"]) for each in found] == []
