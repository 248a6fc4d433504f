"""Maps laid over images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emma_viz.data.geometry import Geometry
from emma_viz.render.colours import COLORMAPS, MODELS, colour_table
from emma_viz.render.overlay import fit_image, highlight, pale, to_bytes
from emma_viz.render.spans import GridSpans
from tests.render.conftest import TILES

FULL = GridSpans.even((0.0, 0.0, 1.0, 1.0), (4, 4))


def photo(height: int = 24, width: int = 24) -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=40)
@given(st.sampled_from(["resize-naive", "resize-crop", "letterbox"]), st.integers(2, 90), st.integers(2, 90))
def test_pixels_belong_to_the_patches_of_the_real_geometry(strategy, width, height):
    geometry = Geometry(image_size=(width, height), strategy=strategy, size=32, patch=5)
    rows, columns = GridSpans.of(geometry.spans, geometry.image_size).cells_of_pixels((height, width))
    for y in range(0, height, 7):
        for x in range(0, width, 7):
            token = int(geometry.tokens_at(np.array([x + 0.5, y + 0.5])))
            inside = rows[y] >= 0 and columns[x] >= 0
            mine = int(rows[y] * geometry.grid[1] + columns[x]) if inside else -1
            if mine != token:
                # Only a pixel whose centre lies on an edge may fall to either side.
                boxes = np.asarray(geometry.token_boxes())
                edges = np.concatenate(
                    [boxes[:, [0, 2]].ravel() - (x + 0.5), boxes[:, [1, 3]].ravel() - (y + 0.5)]
                )
                assert np.abs(edges).min() < 1e-6


def test_a_highlight_is_never_darker_than_the_image_where_the_map_is_low():
    image = photo()
    values = np.zeros((4, 4), dtype=np.float32)
    lit = highlight(image, values, (0.0, 1.0), FULL)
    np.testing.assert_array_equal(lit, np.round(pale(image) * 255).astype(np.uint8))
    luminance = np.array([0.299, 0.587, 0.114])
    assert (lit @ luminance >= image @ luminance - 1).all()


def test_a_highlight_goes_towards_the_maps_colour():
    image = photo()
    values = np.zeros((4, 4), dtype=np.float32)
    values[1, 2] = 1.0
    lit = highlight(image, values, (0.0, 1.0), FULL, colormap="viridis", strength=1.0)
    assert (lit[6:12, 12:18] == colour_table("viridis")[255]).all()
    low = highlight(image, np.zeros((4, 4), dtype=np.float32), (0.0, 1.0), FULL)
    changed = (lit != low).any(axis=2)
    assert changed[6:12, 12:18].all()
    assert not np.delete(changed.reshape(4, 6, 4, 6).any(axis=(1, 3)).ravel(), 6).any()


def test_unseen_pixels_and_nan_are_not_tinted():
    image = photo()
    values = np.ones((4, 4), dtype=np.float32)
    values[0, 0] = np.nan
    lit = highlight(image, values, (0.0, 1.0), GridSpans.even((0.25, 0.0, 0.75, 1.0), (4, 4)))
    plain = np.round(pale(image) * 255).astype(np.uint8)
    np.testing.assert_array_equal(lit[:, :6], plain[:, :6])
    np.testing.assert_array_equal(lit[:, 18:], plain[:, 18:])
    np.testing.assert_array_equal(lit[:6, 6:9], plain[:6, 6:9])
    assert (lit[6:, 6:18] != plain[6:, 6:18]).any(axis=2).mean() > 0.9


def test_between_tiles_nothing_is_tinted():
    image = photo(28, 28)
    lit = highlight(image, np.ones((6, 6), dtype=np.float32), (0.0, 1.0), TILES)
    tinted = (lit != np.round(pale(image) * 255).astype(np.uint8)).any(axis=2)
    seen = np.arange(28) % 14 < 12
    assert not tinted[~np.logical_and.outer(seen, seen)].any()
    assert tinted[np.ix_(seen, seen)].mean() > 0.99


def test_fit_image_keeps_the_aspect():
    assert fit_image(photo(30, 40), 100).shape == (30, 40, 3)
    assert fit_image(photo(300, 400), 100).shape == (75, 100, 3)
    assert fit_image(photo(2, 400), 100).shape == (1, 100, 3)


def test_to_bytes_clips_and_marks_what_is_missing():
    pixels = np.array([[[-1.0, 0.5, 2.0], [0.2, np.nan, 0.1], [np.inf, 0.0, 0.0]]], dtype=np.float32)
    np.testing.assert_array_equal(to_bytes(pixels)[0], [[0, 128, 255], [215, 215, 215], [215, 215, 215]])


@pytest.mark.parametrize("name", COLORMAPS)
def test_colour_tables(name):
    assert colour_table(name).shape == (256, 3)
    assert len(np.unique(colour_table(name), axis=0)) > 200


def test_line_colours_differ_for_colour_blind_readers():
    """Neighbours differ in lightness or in blue against yellow, which all common kinds of colour blindness keep."""
    rgb = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in MODELS[:4]]) / 255
    luminance = rgb @ np.array([0.2126, 0.7152, 0.0722])
    yellow = rgb[:, :2].mean(axis=1) - rgb[:, 2]
    for one in range(4):
        for other in range(one):
            assert abs(luminance[one] - luminance[other]) + abs(yellow[one] - yellow[other]) > 0.2
