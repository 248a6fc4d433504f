"""The explorer's service on a tiny pair of random models."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from apps.explorer.service import Service, Settings
from emma_viz.data import image_hash
from emma_viz.session import Running


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


@pytest.fixture(scope="session")
def ask(service) -> Callable:
    """Runs a question to its end: the last news."""

    defaults = {
        "prompt": "What is it?",
        "models": ("cobra", "emma"),
        "lens": "ridge",
        "site": "",
        "tokens": 6,
    }

    def run(upload, *, on=service, secret=None, **changes):
        secret = on.sessions.open() if secret is None else secret
        path = None if upload is None else str(upload)
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
