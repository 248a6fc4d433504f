"""Where the image tokens of every family lie: the same properties of all, over images of any size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from emma_viz.render.spans import GridSpans
from tests.peers.checkpoints import PATCH, UNEVEN

pytestmark = pytest.mark.slow  # the package's models take seconds to import

CROPPED = ("llava", "vipllava")
"""These see the square in the middle of an image."""
TRIMMED = ("llava-next", "llava-onevision", "llava-onevision-uneven")
"""These drop what sees padding alone, by whole tokens: at an edge up to half a token too many or too few."""
EDGE = 1e-6
"""Pixels: what lies nearer to an edge may be on either side of it."""

# Of a thinner image LLaVA-NeXT may have no token left, and refuses it.
SIZES = st.tuples(st.integers(16, 150), st.integers(16, 150)).filter(lambda size: max(size) <= 5 * min(size))
over_sizes = given(size=SIZES)


def place_of(model, size):
    return model.transform.geometry(Image.new("RGB", size))


def axes_of(place):
    """(axis, starts, ends, pixels of the image) of both axes of every grid."""
    for grid in place.grids:
        for line in (grid.x, grid.y):
            yield line, *line.spans, line.axis.length


@settings(max_examples=20, deadline=None)
@over_sizes
def test_boxes_are_in_order_and_apart_and_see_the_image_or_its_padding(peer, size):
    name, model = peer
    place = place_of(model, size)
    assert place.image_size == size
    for _, starts, ends, length in axes_of(place):
        assert (starts < ends).all()
        assert (ends[:-1] <= starts[1:] + EDGE).all()
        if name == "llava-padded":
            padding = (max(size) - length) / 2 + 1
        else:
            padding = (ends - starts).max() / 2 if name in TRIMMED else 0
            assert (ends > EDGE).all()
            assert (starts < length - EDGE).all()
        assert starts[0] >= -padding - EDGE
        assert ends[-1] <= length + padding + EDGE
    boxes = place.all_boxes()
    assert len(boxes) == place.n_image_tokens
    assert np.isnan(boxes).all(axis=1).sum() == place.spare


@settings(max_examples=20, deadline=None)
@over_sizes
def test_boxes_cover_what_the_family_sees(peer, size):
    name, model = peer
    for line, starts, ends, length in axes_of(place_of(model, size)):
        cell = (ends - starts).max()
        between, edges = starts[1:] - ends[:-1], np.maximum([starts[0], length - ends[-1]], 0)
        # What a tile leaves over lies between it and the next, and at the image's end.
        left = (UNEVEN % PATCH) * cell / PATCH if name == "llava-onevision-uneven" else 0
        found = between[np.abs(between) > EDGE]
        np.testing.assert_allclose(found, left, atol=EDGE)
        tiles = (line.skip + line.count - 1) // line.tile - line.skip // line.tile if line.tile else 0
        assert len(found) == (tiles if left else 0)
        if name in CROPPED:
            assert abs(edges.sum() - (length - min(size))) <= cell / PATCH + EDGE
        elif name in TRIMMED:
            assert edges[0] <= cell / 2 + EDGE
            assert edges[1] <= cell / 2 + left + EDGE
        else:
            assert (edges <= EDGE).all()


@settings(max_examples=20, deadline=None)
@over_sizes
def test_from_pixel_to_token_to_box_and_back(peer, size):
    place = place_of(peer[1], size)
    width, height = size
    boxes = place.token_boxes()
    np.testing.assert_array_equal(
        place.tokens_at((boxes[:, :2] + boxes[:, 2:]) / 2), np.arange(place.n_tokens)
    )
    y, x = np.mgrid[:height, :width] + 0.5
    tokens = place.tokens_at(np.stack([x, y], axis=-1))
    seen = tokens >= 0
    left, top, right, bottom = boxes[tokens[seen]].T
    assert ((left <= x[seen]) & (x[seen] < right) & (top <= y[seen]) & (y[seen] < bottom)).all()
    for px, py in zip(x[~seen][::7], y[~seen][::7], strict=True):
        left, top, right, bottom = boxes.T
        assert not ((left <= px) & (px < right) & (top <= py) & (py < bottom)).any()
    pasted = place.paste(np.arange(place.n_tokens).reshape(place.grid))
    np.testing.assert_array_equal(np.nan_to_num(pasted, nan=-1).astype(int), tokens)
    # What pictures are drawn by, in shares of the image: a centre on an edge may fall to either side.
    rows, columns = GridSpans.of(place.spans, size).cells_of_pixels((height, width))
    drawn = np.where((rows >= 0)[:, None] & (columns >= 0), rows[:, None] * place.grid[1] + columns, -1)
    off = [
        np.abs(c[:, None] - boxes[:, ends].ravel()).min(axis=1) > EDGE
        for c, ends in ((y[:, 0], [1, 3]), (x[0], [0, 2]))
    ]
    np.testing.assert_array_equal(drawn[off[0]][:, off[1]], tokens[off[0]][:, off[1]])
