"""A tiny checkpoint of each family of transformers' models, written once and loaded."""

import numpy as np
import pytest
from PIL import Image

from tests.peers.checkpoints import PROCESSORS, write


@pytest.fixture(scope="session", params=PROCESSORS)
def peer(request, tmp_path_factory):
    """The name of a family in the tests, and its model."""
    from emma_viz.checkpoints import load_model

    folder = tmp_path_factory.mktemp("peers") / f"tiny-{request.param}"
    write(request.param, folder)
    return request.param, load_model(folder)


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Noise, wide, high and square."""
    draw = np.random.default_rng(1)
    sizes = [(40, 90), (70, 32), (48, 48)]
    return [Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]
