"""Ways to bring an image to the page: a drop, the clipboard, the camera; and what is refused before it is sent."""

import base64

import numpy as np
import pytest
from PIL import Image

from tests.apps.programs import program
from tests.apps.visiting import CHROMIUM, FLAGS, Visit

pytestmark = pytest.mark.slow

PREVIEW = "#explorer-image .image-frame img"
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]

COPY = """async (content) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  await navigator.clipboard.write([new ClipboardItem({ "image/png": new Blob([bytes], { type: "image/png" }) })]);
}"""


def plain(path, colour):
    """A picture of one colour as a file."""
    Image.new("RGB", (48, 32), colour).save(path)
    return path


def drop(visit: Visit, path, place: str) -> None:
    """Drag a file from the desktop onto a part of the page, and let it go there."""
    box = visit.page.locator(place).first.bounding_box()
    devtools = visit.context.new_cdp_session(visit.page)
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send(
            "Input.dispatchDragEvent",
            {
                "type": kind,
                "x": box["x"] + box["width"] / 2,
                "y": box["y"] + box["height"] / 2,
                "data": {"items": [], "files": [str(path)], "dragOperationsMask": 1},
            },
        )


def colour_seen(visit: Visit) -> list[int]:
    """The first of the pixels that the models saw."""
    return visit.canvas("[...emma.result.models[0].truth.slice(0, 3)]")


def test_an_image_is_dropped_on_the_upload_and_another_on_the_page(visit, tmp_path):
    drop(visit, plain(tmp_path / "first.png", (200, 40, 40)), "#explorer-image .upload-container")
    visit.page.wait_for_selector(PREVIEW + "[src$='first.png']")
    drop(visit, plain(tmp_path / "second.png", (40, 40, 200)), PREVIEW)
    visit.page.wait_for_selector(PREVIEW + "[src$='second.png']")
    drop(visit, plain(tmp_path / "third.png", (40, 160, 40)), ".ev")
    visit.page.wait_for_selector(PREVIEW + "[src$='third.png']")
    visit.run()
    assert visit.canvas("emma.result.image.name") == "third"
    assert colour_seen(visit) == [40, 160, 40]


def copy(visit: Visit, path) -> None:
    """Put a picture on the clipboard."""
    visit.page.evaluate(COPY, base64.b64encode(path.read_bytes()).decode())


def test_an_image_is_pasted_by_its_button(visit, tmp_path):
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    copy(visit, plain(tmp_path / "copied.png", (20, 120, 160)))
    visit.page.get_by_role("button", name="Paste from clipboard").click()
    visit.page.wait_for_selector(PREVIEW)
    visit.run()
    assert colour_seen(visit) == [20, 120, 160]


def test_an_image_is_taken_with_the_camera(browser, address):
    with browser.browser_type.launch(
        executable_path=program(*CHROMIUM), args=[*FLAGS, *CAMERA]
    ) as with_camera:
        visit = Visit(with_camera, address).open()
        visit.page.get_by_role("button", name="Capture from camera").click()
        visit.page.get_by_title("grant webcam access").click()
        visit.page.wait_for_function("document.querySelector('#explorer-image video')?.videoWidth > 0")
        visit.page.get_by_label("capture photo").click()
        visit.page.wait_for_selector(PREVIEW)
        visit.run()
        pixels = np.array(visit.canvas("[...emma.result.models[0].truth]"))
        assert pixels.std() > 5  # the fake camera films a coloured dial
        visit.close()


def test_what_is_refused_is_refused_with_a_sentence_and_never_sent(visit, tmp_path):
    (tmp_path / "large.png").write_bytes(bytes(25 * 2**20 + 1))
    (tmp_path / "letter.txt").write_text("Dear page,")
    first = visit.page.locator("#explorer-image input[type=file]").first
    upload = "#explorer-image .upload-container"
    large = "large.png has more than 25 MB; make it smaller."
    for sentence, bring in (
        (large, lambda: first.set_input_files(tmp_path / "large.png")),
        (large, lambda: drop(visit, tmp_path / "large.png", upload)),
        (large, lambda: drop(visit, tmp_path / "large.png", ".ev")),
        ("letter.txt is not an image.", lambda: drop(visit, tmp_path / "letter.txt", ".ev")),
    ):
        bring()
        said = visit.page.locator(".ev-error p")
        said.wait_for()
        assert said.inner_text() == sentence
        visit.page.get_by_role("button", name="Close").click()
        assert said.count() == 0
    assert not any("upload" in url for url in visit.requests)  # nothing was sent
    visit.upload(plain(tmp_path / "small.png", (9, 9, 9)))  # the next is taken
    reply = visit.page.request.post(
        f"{visit.address}gradio_api/upload",
        multipart={"files": {"name": "large.png", "mimeType": "image/png", "buffer": bytes(26 * 2**20)}},
    )
    assert reply.status == 413  # by the server itself


def test_text_is_still_pasted_into_the_prompt_and_an_image_onto_the_page(visit, tmp_path):
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.page.evaluate("navigator.clipboard.writeText('Is it red?')")
    prompt = visit.page.locator("#explorer-prompt textarea")
    prompt.fill("")
    prompt.press("Control+V")
    assert prompt.input_value() == "Is it red?"
    copy(visit, plain(tmp_path / "copied.png", (120, 20, 160)))
    prompt.blur()
    visit.page.wait_for_selector("#explorer-image .upload-container")  # is mounted after the rest of the page
    visit.page.keyboard.press("Control+V")
    visit.page.wait_for_selector(PREVIEW)
    visit.run()
    assert colour_seen(visit) == [120, 20, 160]
    assert visit.canvas("emma.result.prompt") == "Is it red?"
