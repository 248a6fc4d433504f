"""Where the cells of a grid lie on their image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from emma_viz.data.image_grid import Axis
from emma_viz.data.tiles import TileGeometry, TokenAxis, TokenGrid
from emma_viz.errors import InputError
from emma_viz.render.spans import GridSpans
from tests.render.conftest import TILES


def tiles(
    tiles: tuple[int, int], side: int, patch: int, spare: int, size: tuple[int, int], step: float = 1.0
):
    """A grid of tiles of `side` patches, each with `spare` pixels that no patch sees."""
    pitch = side * patch + spare
    x, y = (
        TokenAxis(
            count=int(side * count // step), patch=patch, tile=side, pitch=pitch,
            step=side * count / int(side * count // step),
            axis=Axis(length=length, pad=0, resized=count * pitch, crop=0),
        )
        for count, length in zip(tiles, size, strict=True)
    )  # fmt: skip
    return TileGeometry(image_size=size, grids=(TokenGrid(x=x, y=y),))


def spans_of(place) -> GridSpans:
    return GridSpans.of(place.spans, place.image_size)


SOME = st.tuples(
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.sampled_from([4, 6, 27]),
    st.integers(2, 14),
    st.integers(0, 9),
    st.tuples(st.integers(3, 200), st.integers(3, 200)),
    st.sampled_from([1.0, 1.5]),
)


@settings(max_examples=60)
@given(SOME)
def test_each_pixel_is_the_token_that_the_geometry_says(given_tiles):
    place = tiles(*given_tiles)
    width, height = place.image_size
    rows, columns = spans_of(place).cells_of_pixels((height, width))
    y, x = np.mgrid[:height, :width] + 0.5
    tokens = place.tokens_at(np.stack([x, y], axis=-1))
    mine = np.where((rows >= 0)[:, None] & (columns >= 0), rows[:, None] * place.grid[1] + columns, -1)
    boxes = place.token_boxes()
    # Only a pixel whose centre lies on an edge may fall to either side.
    on_edge = [
        np.abs(centres[:, None] - boxes[:, ends].ravel()).min(axis=1) < 1e-6
        for centres, ends in ((y[:, 0], [1, 3]), (x[0], [0, 2]))
    ]
    assert (tokens == mine)[~on_edge[0]][:, ~on_edge[1]].all()


@settings(max_examples=60)
@given(SOME, st.integers(1, 3))
def test_lines_lie_in_their_cells_and_between_them_lies_none(given_tiles, lines):
    spans = spans_of(tiles(*given_tiles))
    for axis, span in zip(spans.laid_out(lines), (spans.across, spans.down), strict=True):
        assert (np.diff(axis.edges) > 0).all()
        own = axis.source >= 0
        np.testing.assert_array_equal(axis.source[own], np.arange(span.shape[1] * lines))
        first, last = axis.edges[:-1][own][::lines], axis.edges[1:][own][lines - 1 :: lines]
        np.testing.assert_allclose(np.stack([first, last]), span, rtol=0, atol=1e-12)
    covered = [np.clip(span, 0, 1) for span in (spans.across, spans.down)]
    area = np.prod([(each[1] - each[0]).sum() for each in covered])
    assert sum(w * h for _, _, w, h in spans.unseen()) == pytest.approx(1 - area, abs=1e-5)


def test_pixels_of_tiles_come_back_as_the_tiles_have_them():
    pixels = np.arange(1, 24 * 24 + 1).reshape(24, 24)
    found = TILES.spread(pixels)
    seen = np.arange(26) % 14 < 12
    np.testing.assert_array_equal(found[seen][:, seen], pixels)
    assert not found[~seen].any()
    assert not found[:, ~seen].any()
    assert not TILES.is_even


def test_a_grid_without_gaps_is_even():
    spans = spans_of(tiles((3, 2), 27, 14, 0, (1000, 707)))
    assert spans.is_even
    assert spans.equals(spans_of(tiles((3, 2), 27, 14, 0, (1000, 707))))
    assert not spans_of(tiles((3, 2), 27, 14, 6, (1000, 707))).is_even
    assert GridSpans.even((-0.5, 0.0, 1.5, 1.0), (3, 4)).extent == (-0.5, 0.0, 1.5, 1.0)
    assert GridSpans.even((2.0, 0.0, 3.0, 1.0), (3, 4)).unseen() == [(0.0, 0.0, 1.0, 1.0)]


@pytest.mark.parametrize(
    "across",
    [
        np.zeros((2, 0)), np.array([[0.5], [0.5]]), np.array([[0.0], [np.nan]]),
        np.array([[0.0, 0.4], [0.5, 1.0]]), np.array([[0.5, 0.0], [1.0, 0.5]]), np.array([[0.0], [1e9]]),
    ],
)  # fmt: skip
def test_what_are_no_spans_is_refused(across):
    with pytest.raises(InputError, match="columns"):
        GridSpans(across=across, down=np.array([[0.0], [1.0]]))


@pytest.mark.parametrize("across", [np.zeros(4), np.array([[0.0, 0.5]]), np.zeros((3, 2))])
def test_spans_are_a_row_of_starts_and_one_of_ends(across):
    with pytest.raises((InputError, TypeCheckError), match=r"columns|across"):
        GridSpans(across=across, down=np.array([[0.0], [1.0]]))
