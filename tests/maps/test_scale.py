"""The one rule for the limits of a colour scale."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from emma_viz.data.geometry import Geometry
from emma_viz.maps.kinds import patch_map, rest_of
from emma_viz.maps.scale import FLAT, LEAST_SHARE, Rest, difference_limit, levels, limits_of, normalise

REST = Rest(low=0.0, high=0.9, seen=0.3)
FINITE = st.floats(0, 2**20, width=32)


def white() -> np.ndarray:
    return np.full((448, 448, 3), 255, np.uint8)


def photographs() -> dict[str, np.ndarray]:
    from skimage import data

    grey = {
        name: np.stack([getattr(data, name)()] * 3, axis=-1) for name in ("camera", "moon", "coins", "gravel")
    }
    return {name: getattr(data, name)() for name in ("astronaut", "coffee", "chelsea", "rocket")} | grey


def simple() -> dict[str, np.ndarray]:
    square, patch, halves = white(), white(), white()
    square[200:256, 200:256] = (255, 0, 0)
    patch[196:212, 196:212] = (255, 0, 0)
    halves[:, :224] = 0
    board = np.repeat(np.repeat((np.add.outer(np.arange(8), np.arange(8)) % 2 * 255), 56, 0), 56, 1)
    return {
        "one object": square,
        "one patch": patch,
        "two halves": halves,
        "a chessboard": np.stack([board] * 3, axis=-1).astype(np.uint8),
    }


def true_map(image: np.ndarray, kind: str, *, size: int, patch: int) -> tuple[np.ndarray, Rest]:
    """The map of an image's true pixels, as a model with that input and patch sees it."""
    from PIL import Image

    view = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
    place = Geometry(image_size=(size, size), strategy="resize-naive", size=size, patch=patch)
    patches = place.patches(view).astype(np.float32) / np.float32(255)
    return patch_map(kind, patches, patches), rest_of(kind, patches[0].size)


@pytest.mark.parametrize("kind", ["distance", "magnitude"])
@pytest.mark.parametrize(("size", "patch"), [(128, 8), (384, 14)])
def test_photographs_keep_their_percentiles(kind, size, patch):
    for name, image in photographs().items():
        values, rest = true_map(image, kind, size=size, patch=patch)
        np.testing.assert_allclose(
            limits_of(values, rest), np.percentile(values, (2, 98)), rtol=1e-6, err_msg=name
        )


@pytest.mark.parametrize(("size", "patch"), [(128, 8), (384, 14)])
@pytest.mark.parametrize("name", list(simple()))
def test_simple_images_keep_their_object(name, size, patch):
    """Half of the object's own distance, which a fading decoder shows, must be told from the whole of it."""
    values, rest = true_map(simple()[name], "distance", size=size, patch=patch)
    low, high = limits_of(values, rest)
    assert high >= LEAST_SHARE * values.max()
    shown = normalise(
        np.array([[0.0, values.max() / 4, values.max() / 2]], np.float32), np.array([low, high])
    )[0]
    assert np.diff(shown).min() > 0.2
    assert shown[0] == 0


def test_a_lone_patch_of_729_lies_inside():
    values = np.zeros(729, np.float32)
    values[300] = 9.99
    assert limits_of(values, REST).tolist() == [0, np.float32(9.99)]


def test_one_tone_rests():
    values, rest = true_map(np.full((60, 60, 3), 90, np.uint8), "distance", size=128, patch=8)
    assert limits_of(values, rest).tolist() == pytest.approx([0, (192**0.5) / 16])
    values, rest = true_map(np.full((60, 60, 3), 90, np.uint8), "magnitude", size=128, patch=8)
    assert limits_of(values, rest).tolist() == pytest.approx([0, values.max()])


@given(arrays.arrays(np.float32, st.integers(1, 60), elements=FINITE | st.just(np.nan)))
def test_the_extent_of_a_scale(values):
    low, high = (float(end) for end in limits_of(values, REST))
    assert low < high
    assert high - low >= REST.seen * (1 - 1e-6)
    finite = values[np.isfinite(values)]
    if not finite.size:
        assert (low, high) == pytest.approx((REST.low, REST.high))
        return
    spread, largest = float(np.ptp(finite)), float(np.abs(finite).max())
    assert high - low >= LEAST_SHARE * spread * (1 - 1e-5)
    assert high - low >= FLAT * max(abs(low), abs(high)) * (1 - 1e-5)
    assert high <= max(largest, REST.high) * (1 + 1e-6)
    assert low >= min(float(finite.min()), REST.low)
    # What is cut off is at most 2 % of the values on either side, rounded up.
    assert (finite < np.float32(low)).sum() <= np.ceil(0.02 * finite.size)
    assert (finite > np.float32(high)).sum() <= np.ceil(0.02 * finite.size)


@given(arrays.arrays(np.float32, (2, 4), elements=st.floats(-100, 100, width=32)))
def test_a_difference_is_centred_and_has_an_extent(values):
    limit = difference_limit(values, REST)
    assert limit >= REST.seen * (1 - 1e-6)
    assert (np.abs(values) > np.float32(limit)).sum() <= 1, "2 % of eight values, rounded up"
    assert limit == difference_limit(-values, REST)


def test_a_scale_without_extent_has_two_colours():
    values = np.array([[1.0, 2.0, 3.0, np.nan]], np.float32)
    np.testing.assert_array_equal(normalise(values, np.array([2.0, 2.0]))[0], [0, 0, 1, np.nan])
    assert levels(values, np.array([2.0, 2.0]))[0].tolist() == [0, 0, 255, -1]


def test_levels_are_the_nearest_entries():
    values = np.array([[-1, 0, 0.5, 1, 2, np.nan]], np.float32)
    assert levels(values, np.array([0.0, 1.0]))[0].tolist() == [0, 0, 128, 255, 255, -1]
