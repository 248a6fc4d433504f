"""Tiles that patches do not fill, from a checkpoint to its pictures: 18 pixels a side, patches of 4."""

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from emma_viz.capture import record
from emma_viz.checkpoints import load_model
from emma_viz.maps import decode
from emma_viz.maps.scale import normalise
from emma_viz.session import fit_ridge
from emma_viz.session.comparison import Comparison
from emma_viz.session.payload import payload
from tests.peers.checkpoints import write

pytestmark = pytest.mark.slow  # the package's models take seconds to import

SIZE = 36
"""Pixels of a square photograph, which is two tiles a side: each pixel is one of a tile's."""


@pytest.fixture(scope="module")
def decoding(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uneven") / "tiny-uneven"
    write("llava-onevision-uneven", folder)
    model = load_model(folder)
    noise = list(np.random.default_rng(4).integers(0, 256, (8, SIZE, SIZE, 3), dtype=np.uint8))
    lens = fit_ridge(model, noise[:6], heldout=noise[6:], fitted_on="noise", layers=[2])
    return decode(record(model, noise[7], "Why?", layers=[2], generate=False), lens)


def cell_of(pixel: int) -> int | None:
    """The row or column of patches of a row or column of pixels."""
    tile, place = divmod(pixel, 18)
    return None if place >= 16 else 4 * tile + place // 4


def test_the_true_pixels_of_a_token_are_those_of_its_box(decoding):
    image, true = np.asarray(decoding.images[0]) / 255, decoding.true_images()[0]
    seen = [pixel for pixel in range(SIZE) if cell_of(pixel) is not None]
    np.testing.assert_allclose(true, image[np.ix_(seen, seen)], atol=1e-6)


def test_figure_and_payload_have_the_tokens_where_they_are(decoding):
    comparison = Comparison(decodings=(decoding,), image_names=("noise",))
    (case,), (sent,) = comparison.spec().images, payload(comparison, live=False)["models"]
    rows, columns = case.spans.cells_of_pixels((SIZE, SIZE))
    expected = [-1 if (cell := cell_of(pixel)) is None else cell for pixel in range(SIZE)]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(columns, expected)
    assert sent["spans"] == case.models[0].spans.to_json() == case.spans.to_json()


@pytest.mark.parametrize("what", ["map", "decoded"])
def test_each_pixel_of_a_panel_has_the_colour_of_its_token(decoding, what):
    maps = decoding.maps()
    figure = Figure(figsize=(3.6, 3.6), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    maps.show(axes, 2, what=what)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    found = np.asarray(canvas.buffer_rgba())[5::10, 5::10, :3] / 255
    if what == "map":
        colours = colormaps["viridis"](normalise(maps.values[0, 0], maps.limits[0, 0]))[..., :3]
        expected = np.kron(colours, np.ones((4, 4, 1)))
    else:
        expected = np.clip(decoding.decoded_images()[0, 0], 0, 1)
    seen = np.array([cell_of(pixel) is not None for pixel in range(SIZE)])
    np.testing.assert_allclose(found[np.ix_(seen, seen)], expected, atol=2 / 255)
    assert (found[~seen] == 1).all()
    assert (found[:, ~seen] == 1).all()
