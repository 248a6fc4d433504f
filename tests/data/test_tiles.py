"""Grids of tokens of any shape: boxes cover the image once, numbers go there and back, views fit the boxes."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emma_viz.data.image_grid import Axis
from emma_viz.data.tiles import TileGeometry, TokenAxis, TokenGrid
from emma_viz.errors import CheckpointError, InputError
from emma_viz.models.peers.anyres import ANYRES
from emma_viz.models.peers.internvl import INTERNVL
from emma_viz.models.peers.peer import PeerSettings

PROFILE = settings(max_examples=60)
SIZES = st.tuples(st.integers(8, 300), st.integers(8, 300))
TILES = st.tuples(st.integers(1, 3), st.integers(1, 4))


def tiled(size, tiles, side, patch, *, left=0, spare=0) -> TileGeometry:
    """Whole tiles over an image, of each of which `left` pixels are seen by no token, and the thumbnail."""
    pitch = side * patch + left

    def line(length, count, number):
        axis = Axis(length=length, pad=0, resized=number * pitch, crop=0)
        return TokenAxis(count=count * number, patch=patch, axis=axis, tile=side, pitch=pitch)

    rows, columns = tiles
    whole = TokenGrid(x=line(size[0], side, columns), y=line(size[1], side, rows))
    small = TokenGrid(x=line(size[0], side, 1), y=line(size[1], side, 1))
    return TileGeometry(image_size=size, grids=(whole, small), spare=spare)


@PROFILE
@given(SIZES, TILES, st.integers(1, 6), st.integers(1, 8), st.integers(0, 3))
def test_the_boxes_of_a_tile_grid_cover_the_image_once_and_their_sizes_sum(size, tiles, side, patch, spare):
    place = tiled(size, tiles, side, patch, spare=spare)
    for part in place.parts:
        boxes = part.token_boxes()
        areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        assert areas.sum() == pytest.approx(size[0] * size[1])
        assert (boxes.min(axis=0)[:2] == 0).all()
        np.testing.assert_allclose(boxes.max(axis=0)[2:], size)
        for starts, ends in part.spans:
            np.testing.assert_allclose(starts[1:], ends[:-1])
    assert place.n_image_tokens == sum(each.n_tokens for each in place.parts) + spare
    assert np.isnan(place.all_boxes()).all(axis=1).sum() == spare


@PROFILE
@given(SIZES, TILES, st.integers(1, 6), st.integers(2, 8), st.integers(0, 3))
def test_from_token_to_pixel_and_back(size, tiles, side, patch, left):
    place = tiled(size, tiles, side, patch, left=min(left, patch - 1), spare=2)
    boxes = place.all_boxes()
    for token in range(place.n_image_tokens):
        found = place.part_of(token)
        if found is None:
            assert token >= place.n_image_tokens - 2
            continue
        part = place.parts[found[0]]
        centre = (boxes[token, :2] + boxes[token, 2:]) / 2
        assert int(part.tokens_at(centre)) == found[1]
        assert part.tokens_in(boxes[token].tolist(), at_least=0.99).tolist() == [found[1]]


@PROFILE
@given(SIZES, TILES, st.integers(1, 4), st.integers(2, 6), st.integers(1, 3))
def test_what_a_tile_leaves_over_is_seen_by_no_token(size, tiles, side, patch, left):
    left = min(left, patch - 1)
    place, pitch = tiled(size, tiles, side, patch, left=left), side * patch + left
    boxes = place.token_boxes()
    share = (side * patch / pitch) ** 2
    assert np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).sum() == pytest.approx(size[0] * size[1] * share)
    behind = np.array([(pitch - left / 2) / (tiles[1] * pitch) * size[0], 0.5 / (tiles[0] * pitch) * size[1]])
    assert int(place.tokens_at(behind)) == -1


@PROFILE
@given(SIZES, st.integers(0, 3), st.integers(1, 6), st.integers(1, 8), st.integers(4, 90))
def test_padding_in_front_is_dropped_with_the_tokens_that_see_it(size, skip, count, patch, pad):
    """An image that begins `pad` pixels behind the tiles' edge, without the first `skip` patches."""
    axis = Axis(length=size[0], pad=0, resized=64, crop=-pad)
    line = TokenAxis(count=count, patch=patch, axis=axis, skip=skip)
    starts, ends = line.spans
    scale = size[0] / 64
    np.testing.assert_allclose(starts, ((skip + np.arange(count)) * patch - pad) * scale)
    np.testing.assert_allclose(ends - starts, patch * scale)


def test_a_resampled_grid_covers_what_the_full_one_covers():
    """As 12 patches of two tiles become 5 tokens: the edge between the tiles lies inside the third."""
    axis = Axis(length=130, pad=0, resized=26, crop=0)
    full = TokenAxis(count=12, patch=2, axis=axis, tile=6, pitch=13)
    few = TokenAxis(count=5, patch=2, axis=axis, tile=6, pitch=13, step=12 / 5)
    assert (few.spans[0][0], few.spans[1][-1]) == (full.spans[0][0], full.spans[1][-1])
    starts, ends = few.on_tiles
    np.testing.assert_allclose(starts, [0, 4.8, 9.6, 13 + 2.4, 13 + 7.2])
    np.testing.assert_allclose(ends, [4.8, 9.6, 13 + 2.4, 13 + 7.2, 25])


@pytest.mark.parametrize("left", [0, 2])
def test_the_view_shows_each_token_its_own_box(left):
    """Every token of every tile is one colour on the tiles, and so is its patch."""
    side, patch, tiles = 3, 4, (2, 3)
    pitch = side * patch + left
    size = (tiles[1] * pitch, tiles[0] * pitch)
    place = tiled(size, tiles, side, patch, left=left)
    colours = np.random.default_rng(0).integers(0, 256, (place.n_tokens, 3), dtype=np.uint8)
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    for (x0, y0, x1, y1), colour in zip(np.rint(place.token_boxes()).astype(int), colours, strict=True):
        pixels[y0:y1, x0:x1] = colour
    patches = place.patches(place.seen(pixels))
    assert (patches == colours[:, None, None]).all()
    pasted = place.paste(np.arange(place.n_tokens, dtype=float).reshape(place.grid))
    assert np.isnan(pasted).any() == bool(left)
    seen = ~np.isnan(pasted)
    assert (colours[pasted[seen].astype(int)] == pixels[seen]).all()


def test_what_is_left_out_of_a_picture_is_said():
    assert tiled((40, 30), (1, 2), 2, 4, spare=3).said == (
        "not drawn: 2×2 tokens of the whole image, 3 tokens without pixels"
    )


def test_what_fits_no_image_is_refused():
    line = TokenAxis(count=2, patch=4, axis=Axis(length=30, pad=0, resized=8, crop=0))
    with pytest.raises(InputError, match="expected grids of square patches"):
        TileGeometry(image_size=(30, 31), grids=(TokenGrid(x=line, y=line),))
    with pytest.raises(InputError, match="tiles of at least their patches"):
        TokenAxis(count=2, patch=4, axis=line.axis, tile=3, pitch=11)
    with pytest.raises(InputError, match="expected a token of 0 to 3"):
        TileGeometry(image_size=(30, 30), grids=(TokenGrid(x=line, y=line),)).part_of(4)


def test_a_file_cannot_ask_for_any_number_of_tokens():
    """They are counted before any array of them is made."""
    with pytest.raises(InputError, match=r"would become 16777232 tokens.*preprocessor_config"):
        tiled((64, 64), (1024, 1024), 4, 8)


def test_a_file_cannot_have_any_number_of_tiles_tried():
    processor = SimpleNamespace(
        size={"height": 448, "width": 448}, crop_to_patches=True, min_patches=1, max_patches=10**9
    )
    with pytest.raises(CheckpointError, match="max_patches 1000000000"):
        INTERNVL.arrange((64, 64), PeerSettings(config=None, processor=processor))


def test_coarser_tokens_that_see_any_of_a_place_go_with_it():
    """A grid of 4×4 tokens over 40×40 pixels, its thumbnail of 3×3, and two tokens without pixels."""
    whole, small = (
        TokenAxis(count=count, patch=8, axis=Axis(length=40, pad=0, resized=8 * count, crop=0))
        for count in (4, 3)
    )
    place = TileGeometry(
        image_size=(40, 40), grids=(TokenGrid(x=whole, y=whole), TokenGrid(x=small, y=small)), spare=2
    )
    # A corner token of 10 pixels lies in one of 13⅓; that beside it in two of them.
    assert place.with_coarser(np.array([0])).tolist() == [0, 16]
    assert place.with_coarser(np.array([1])).tolist() == [1, 16, 17]
    assert place.with_coarser(np.array([5])).tolist() == [5, 16, 17, 19, 20]
    assert place.with_coarser(np.arange(16)).tolist() == list(range(25))
    assert place.with_coarser(np.array([3, 26])).tolist() == [3, 18, 26]
    alone = TileGeometry(image_size=(40, 40), grids=(TokenGrid(x=whole, y=whole),))
    assert alone.with_coarser(np.array([2, 7])).tolist() == [2, 7]


def test_a_file_cannot_have_any_number_of_tiles_numbered():
    """They are counted before they are numbered, which would take half a gigabyte."""
    vision = SimpleNamespace(image_size=16, patch_size=4)
    processor = SimpleNamespace(image_grid_pinpoints=[[16 * 2000, 16 * 2000]])
    tracemalloc.start()
    with pytest.raises(InputError, match="got 64000000: image_grid_pinpoints"):
        ANYRES.arrange(
            (60, 60), PeerSettings(config=SimpleNamespace(vision_config=vision), processor=processor)
        )
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
