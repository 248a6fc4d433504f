"""Visits to the page from their beginning: an upload, running, what is refused, the server's end, many at once."""

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Error as PlaywrightError

from tests.apps.visiting import PATIENCE, ROOT, Visit, serving

pytestmark = pytest.mark.slow

WATCH = """() => {
  const told = (window.told = { notes: [], answers: [] });
  const look = () => {
    const frame = document.querySelector('.ev');
    if (!frame || frame.dataset.state !== 'busy') return;
    told.notes.push(document.querySelector('.ev-note b')?.textContent);
    told.answers.push([...document.querySelectorAll('.ev-answer')].map((each) => each.textContent));
  };
  new MutationObserver(look).observe(document.querySelector('.ev'), { subtree: true, childList: true });
}"""


def noise(path, size=(160, 90), seed=0):
    """A picture of noise as a file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_an_upload_is_answered_by_both_models_with_news_on_the_way(visit, tmp_path):
    visit.upload(noise(tmp_path / "noise.png"))
    visit.page.locator("#explorer-prompt textarea").fill("Is there a cup?")
    visit.page.evaluate(WATCH)
    visit.run()
    assert visit.canvas("emma.result.image.name") == "noise"
    assert visit.canvas("emma.result.prompt") == "Is there a cup?"
    final = [text.strip() for text in visit.page.locator(".ev-answer").all_inner_texts()]
    assert len(final) == 2
    told = visit.page.evaluate("window.told")
    assert "waiting for the models" in told["notes"]
    heard = [answers for answers in told["answers"] if answers]
    assert heard
    for answers in heard:
        assert all(end.startswith(so_far.strip()) for end, so_far in zip(final, answers, strict=True))


def test_what_cannot_be_read_is_refused_at_once_and_the_page_lives_on(visit, tmp_path):
    (tmp_path / "letter.png").write_bytes(b"not a picture")
    visit.page.locator("#explorer-image input[type=file]").first.set_input_files(tmp_path / "letter.png")
    visit.page.wait_for_selector(".ev-error")
    assert "letter is not an image" in visit.page.locator(".ev-error").inner_text()
    visit.page.get_by_role("button", name="Close").click()
    visit.press_run()
    visit.page.wait_for_selector(".ev-error")
    assert "Bring an image first" in visit.page.locator(".ev-error").inner_text()
    visit.example(1)
    visit.run()
    assert visit.canvas("emma.result.image.name") == "cat"


def test_a_model_that_cannot_be_loaded_says_why_and_the_page_lives_on(browser, address, coffee_hash):
    visit = Visit(browser, address).open(f"#image={coffee_hash}&models=broken&prompt=What%3F")
    visit.page.wait_for_selector(".ev-error")
    said = visit.page.locator(".ev-error p").inner_text()
    assert "broken" in said
    assert "/" not in said.replace("and/or", "")  # no folder of the server
    visit.page.get_by_role("button", name="Close").click()
    visit.open(f"#image={coffee_hash}&models=emma-v1-pocket&prompt=What%3F")
    visit.result()
    assert visit.page.locator(".ev-card").count() == 1
    visit.close()


def test_files_of_the_server_cannot_be_read(visit):
    for path in ("/etc/passwd", str(ROOT / "pyproject.toml"), "../../../../etc/passwd"):
        for route in ("gradio_api/file=", "file=", "gradio_api/proxy=", "static/"):
            reply = visit.page.request.get(f"{visit.address}{route}{path}")
            assert reply.status >= 400 or "root:" not in reply.text()
            assert "[project]" not in reply.text()
    reply = visit.page.request.post(
        f"{visit.address}gradio_api/run/predict", data={"data": [{"path": "/etc/passwd"}], "fn_index": 0}
    )
    assert "root:" not in reply.text()


def test_a_server_that_ends_is_noticed_and_its_temporary_files_go_with_it(browser, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with serving() as (address, process):
        visit = Visit(browser, address).open()
        visit.upload(noise(tmp_path / "noise.png"))
        assert list(tmp_path.glob("emma-viz-explorer-*/**/noise.png"))
        assert not visit.wrong
        process.terminate()
        process.wait(PATIENCE / 1000)
        visit.page.wait_for_selector(".ev-notice:not([hidden])")
        assert "does not answer" in visit.page.locator(".ev-notice").inner_text()
        visit.context.close()
    assert not list(tmp_path.glob("emma-viz-*"))


def test_eight_visitors_at_once_lose_nothing_and_mix_nothing(browser, address, tmp_path):
    visits = []
    for number in range(8):
        path = tmp_path / f"visitor{number}.png"
        Image.fromarray(np.full((40, 60, 3), 30 * number, np.uint8)).save(path)
        found = Visit(browser, address, reduced_motion="reduce")
        found.open().upload(path)
        visits.append(found)
    for found in visits:
        found.press_run()
    faults = []
    for number, found in enumerate(visits):
        try:
            found.result()
        except (AssertionError, PlaywrightError) as fault:
            said = found.page.locator(".ev-notice, .ev-note").all_inner_texts()
            faults.append(f"visitor {number}: {fault}; the page says {said}")
            break  # the others wait for it, or for the same
        assert found.canvas("emma.result.image.name") == f"visitor{number}"
        assert found.canvas("[...emma.result.models[0].truth.slice(0, 3)]") == [30 * number] * 3
    assert not faults
    for found in visits:
        found.close()


HOLD = """
window.held = { join: [], upload: [] };
const fetchNow = window.fetch;
window.fetch = async (where, ...more) => {
  const kind = ["join", "upload"].find((each) => String(where?.url ?? where).split("?")[0].endsWith(`/${each}`));
  if (kind && !window.held[kind].length) await new Promise((go) => window.held[kind].push(go));
  return fetchNow(where, ...more);
};
"""
"""A slow line: the page's first event, by which it is opened, and its first upload wait until they are let go."""


def test_run_waits_for_an_image_that_is_on_its_way_and_for_no_other_event(browser, address, tmp_path):
    visit = Visit(browser, address)
    visit.page.add_init_script(HOLD)
    visit.open()
    path = noise(tmp_path / "late.png")
    visit.page.locator("#explorer-image input[type=file]").first.set_input_files(path)
    visit.page.wait_for_function("held.join.length && held.upload.length")
    assert "Uploading" in visit.page.locator("#explorer-image").inner_text()
    visit.press_run()
    visit.page.evaluate("held.upload[0]()")
    visit.result()
    visit.page.evaluate("held.join[0]()")
    assert visit.canvas("emma.result.image.name") == "late"
    visit.close()
