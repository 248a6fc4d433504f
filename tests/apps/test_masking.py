"""A place of the image painted over, and what is said and copied of it."""

import base64
import runpy

import numpy as np
import pytest

from apps.explorer.service import Service
from emma_viz.cli.main import main
from emma_viz.data import image_hash, read_image
from emma_viz.render import read_spec
from emma_viz.session import View
from tests.apps.test_copying import at_home, words_of  # noqa: F401 (a fixture)

PLACE = {"model": 1, "region": [1, 0, 2, 1]}
VIEW = {"layers": [1, 1], "kind": "error", "scale": "shared"}


def linked(service, ready, digest):
    """The run that a link to the image gives, of the same question."""
    asked = service.sessions.result(ready["session"], ready["run"]).asked
    path = service.file_of(digest)
    *_, news = service.ask(
        ready["session"],
        str(path),
        asked.prompt,
        asked.models,
        asked.lens,
        asked.site,
        asked.tokens,
        linked=True,
    )
    assert news["stage"] == "ready", news
    return news


@pytest.fixture(scope="module")
def masked(service, ask, photos):
    """A run, and the same question about the image without a place."""
    first = ask(photos[0])
    reply = service.mask({**first, **PLACE})
    assert "error" not in reply, reply
    return first, linked(service, first, reply["image"])


def test_the_place_is_painted_in_the_mean_of_the_rest_and_nothing_else_is(service, masked, photos):
    before, after = (service.sessions.result(each["session"], each["run"]) for each in masked)
    one, other = (np.asarray(each.comparison.decodings[0].images[0]).astype(int) for each in (before, after))
    ((box, colour),) = [(each.box, each.colour) for each in after.painted]
    left, top, right, bottom = box
    boxes = before.comparison.decodings[1].geometry[0].token_boxes().reshape(4, 4, 4)[1:3, 0:2].reshape(-1, 4)
    width, height = before.comparison.decodings[1].images[0].size
    inside = [
        max(boxes[:, 0].min(), 0),
        max(boxes[:, 1].min(), 0),
        min(boxes[:, 2].max(), width),
        min(boxes[:, 3].max(), height),
    ]
    np.testing.assert_allclose(box, inside, atol=1)
    assert (other[top:bottom, left:right] == colour).all()
    rest = np.ones(one.shape[:2], bool)
    rest[top:bottom, left:right] = False
    np.testing.assert_array_equal(one[rest], other[rest])
    np.testing.assert_allclose(one[rest].mean(axis=0), colour, atol=0.5)
    assert after.asked.image_hash != before.asked.image_hash
    assert after.comparison.image_names == (f"{before.comparison.image_names[0]}, masked",)
    assert service.sessions.result(masked[0]["session"], masked[0]["run"]) is before  # to flip back to


def test_what_was_painted_is_said_on_the_page_and_in_what_is_saved(service, masked, tmp_path):
    sent = service.payload(masked[1])
    assert any(note.startswith("Masked: columns") for note in sent["notes"])
    assert not any(note.startswith("Masked") for note in service.payload(masked[0])["notes"])
    reply = service.save({**masked[1], **VIEW, "format": "png"})
    (tmp_path / "view.png").write_bytes(base64.b64decode(reply["data"]))
    assert any(note.startswith("Masked: columns") for note in read_spec(tmp_path / "view.png").notes)


def test_the_copied_programs_paint_it_too(service, masked, at_home):  # noqa: F811
    result = service.sessions.result(masked[1]["session"], masked[1]["run"])
    script, code = (
        base64.b64decode(service.save({**masked[1], **VIEW, "format": form})["data"]).decode()
        for form in ("sh", "py")
    )
    (at_home / "view.py").write_text(code)
    found = runpy.run_path("view.py")
    for values, maps in zip(found["values"], result.comparison.maps(View(map_kind="error")), strict=True):
        np.testing.assert_allclose(values, maps.values[maps.layers.index(1), 0], rtol=1e-5)
    (at_home / "paint.py").write_text(script.split("<<'END'\n")[1].split("\nEND")[0])
    runpy.run_path("paint.py")
    assert image_hash(read_image(at_home / "coffee-masked.png")) == result.asked.image_hash
    (words,) = words_of(script)
    assert main(words) == 0


def test_a_page_has_one_masked_image_that_nobody_asked_about(service, ask, photos):
    first = ask(photos[1])
    digests = [service.mask({**first, "model": 0, "region": [0, 0, row, 0]})["image"] for row in range(2)]
    assert service.images.get(digests[0]) is None
    assert service.images.get(digests[1])
    linked(service, first, digests[1])
    service.mask({**first, "model": 0, "region": [0, 0, 2, 0]})
    assert service.images.get(digests[1])  # a run has asked about it


@pytest.mark.parametrize(
    "wrong",
    [
        {"region": [0, 0, 4, 0]},
        {"region": [2, 0, 1, 0]},
        {"region": [-1, 0, 0, 0]},
        {"region": [0, 0, 0]},
        {"model": 2},
        {"model": -1},
        {"run": 99},
    ],
)
def test_a_place_that_is_none_is_refused(service, ready, wrong):
    assert "error" in service.mask({**ready, **PLACE, **wrong})


def test_a_study_is_not_masked(offer, pair, photos, tmp_path):
    from emma_viz.session import Running, capture, decode_study

    capture(photos[:1], pair.models, tmp_path / "study", running=Running(vision_source=str(pair.vision)))
    decode_study(tmp_path / "study")
    service = Service(offer(models={}, study=tmp_path / "study"), {})
    news = service.show(service.sessions.open(), 0)
    assert "needs the models" in service.mask({**news, **PLACE})["error"]
    service.close()
