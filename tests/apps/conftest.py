"""The explorer's service on a tiny pair of random models, and its page in a browser with the models that ship."""

import hashlib
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apps.explorer.offer import Settings
from apps.explorer.service import Service
from emma_viz.data import image_hash, read_image
from emma_viz.session import (
    DEFAULT_MODELS,
    Comparison,
    Running,
    capture,
    compare,
    compare_study,
    decode_study,
)
from tests.apps.programs import program
from tests.apps.visiting import CHROMIUM, FLAGS, Visit, serving


@pytest.fixture(scope="session")
def offer(pair) -> Callable[..., Settings]:
    """Makes what a server with the tiny pair offers."""

    def make(**more) -> Settings:
        defaults = {
            "models": {"cobra": str(pair.cobra), "emma": str(pair.emma)},
            "chosen": ("cobra", "emma"),
            "running": Running(vision_source=str(pair.vision)),
        }
        return Settings(**(defaults | more))

    return make


@pytest.fixture(scope="session")
def examples() -> dict[str, tuple[str, Image.Image]]:
    """Two images on offer, by hash."""
    draw = np.random.default_rng(5)
    found = [
        (name, Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)))
        for name, size in (("wide", (30, 60)), ("tall", (50, 40)))
    ]
    return {image_hash(image): (name, image) for name, image in found}


@pytest.fixture(scope="session")
def service(offer, examples):
    """A service that stays up for all tests."""
    made = Service(offer(), examples)
    yield made
    made.close()


_ARRIVING = threading.Lock()


def bring(service: Service, secret: str, path: Path) -> str:
    """Copy a file to where an upload of a session's visitor lies: one content has one place, as Gradio has it."""
    place = service.uploads.root / hashlib.sha256(path.read_bytes()).hexdigest()
    with _ARRIVING:
        place.mkdir(exist_ok=True)
        shutil.copy(path, place / path.name)
        return str(service.uploads.adopt(service.sessions.get(secret).visitor, place / path.name))


@pytest.fixture(scope="session")
def ask(service) -> Callable:
    """Runs a question to its end: the last news. A file is brought as an upload, unless it is given `raw`."""

    defaults = {
        "prompt": "What is it?",
        "models": ("cobra", "emma"),
        "lens": "ridge",
        "site": "",
        "tokens": 6,
    }

    def run(upload, *, on=service, secret=None, raw=False, **changes):
        secret = on.sessions.open(on.uploads.visitor()) if secret is None else secret
        path = upload if upload is None or raw else bring(on, secret, upload)
        asked = defaults | changes
        *_, last = on.ask(secret, path, *(asked[name] for name in defaults))
        return last

    return run


@pytest.fixture(scope="session")
def ready(ask, photos):
    """One finished run: {session, run}."""
    news = ask(photos[0])
    assert news["stage"] == "ready", news
    return {"session": news["session"], "run": news["run"]}


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="session")
def browser():
    """Chromium."""
    from playwright.sync_api import sync_playwright

    chromium = program(*CHROMIUM)
    with sync_playwright() as tool:
        found = tool.chromium.launch(executable_path=chromium, args=FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """A server with the bundled pair, and with a third model on offer that cannot be loaded."""
    broken = tmp_path_factory.mktemp("offered") / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    with serving("--models", *DEFAULT_MODELS, str(broken)) as (found, _):
        yield found


@pytest.fixture
def visit(browser, address):
    """A new page of that server."""
    found = Visit(browser, address).open()
    yield found
    found.close()


@dataclass(frozen=True)
class Shown:
    """A page with a result on it, and the same result from the Python API."""

    visit: Visit
    comparison: Comparison
    live: bool
    """Whether models are behind it, or a study alone."""


@pytest.fixture(scope="session")
def coffee() -> Path:
    """The photograph that the first example shows."""
    import skimage

    return Path(skimage.__file__).parent / "data" / "coffee.png"


@pytest.fixture(scope="session")
def coffee_hash(coffee) -> str:
    """Its hash, by which links name it."""
    return image_hash(read_image(coffee))


@pytest.fixture(scope="session")
def live(browser, address, coffee):
    """The bundled pair has answered about the coffee."""
    found = Visit(browser, address, accept_downloads=True).open()
    found.example()
    found.run()
    yield Shown(found, compare(str(coffee)), live=True)
    found.close()


@pytest.fixture(scope="session")
def tiny_comparison(pair, photos) -> Comparison:
    """The tiny pair, and the first of the photographs."""
    return compare(str(photos[0]), pair.models, running=Running(vision_source=str(pair.vision)))


@pytest.fixture(scope="session")
def study(tmp_path_factory, photos, coffee) -> Path:
    """A decoded study of the bundled pair: the coffee, and a cat."""
    place = tmp_path_factory.mktemp("studies") / "study"
    capture([coffee, *photos[1:]], list(DEFAULT_MODELS), place)
    decode_study(place)
    return place


@pytest.fixture(scope="session")
def study_address(study):
    """A server that has this study and no model."""
    with serving("--study", str(study)) as (found, _):
        yield found


@pytest.fixture(scope="session")
def replayed(browser, study_address, study):
    """The study's first image, on a page without any model."""
    found = Visit(browser, study_address, accept_downloads=True).open()
    found.result()
    yield Shown(found, compare_study(study), live=False)
    found.close()


@pytest.fixture(params=["pair", "study"])
def shown(request) -> Shown:
    """Either of them, as a visitor finds it: nothing locked, layer 0, the pointer elsewhere."""
    found = request.getfixturevalue({"pair": "live", "study": "replayed"}[request.param])
    page = found.visit.page
    for _ in range(3):
        page.keyboard.press("Escape")
    page.locator(".ev-slider").fill("0")
    page.mouse.move(2, 2)
    found.visit.drawn()
    return found
