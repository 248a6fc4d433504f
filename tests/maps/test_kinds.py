"""Each kind of map against its definition, and where it has no meaning."""

import numpy as np
import pytest

from emma_viz.maps.kinds import median_patch, patch_map

KINDS = ("distance", "magnitude", "error", "cosine")


@pytest.fixture
def patches():
    rng = np.random.default_rng(0)
    return rng.random((7, 2, 2, 3)).astype(np.float32), rng.random((7, 2, 2, 3)).astype(np.float32)


def test_distance_is_to_the_median_of_each_pixel_and_channel(patches):
    decoded, true = patches
    expected = [
        np.sqrt(
            sum(
                (patch[i, j, c] - np.median(decoded[:, i, j, c])) ** 2
                for i in range(2)
                for j in range(2)
                for c in range(3)
            )
        )
        for patch in decoded
    ]
    np.testing.assert_allclose(patch_map("distance", decoded, true), expected, rtol=1e-5)


def test_magnitude_is_in_the_units_of_the_decoder(patches):
    decoded, true = patches
    expected = [np.linalg.norm((patch - 0.5) / 0.25) for patch in decoded]
    np.testing.assert_allclose(patch_map("magnitude", decoded, true), expected, rtol=1e-5)
    grey = np.full_like(decoded, 0.5)
    assert (patch_map("magnitude", grey, true) == 0).all()


def test_error_is_the_distance_to_the_true_patch(patches):
    decoded, true = patches
    expected = [np.linalg.norm(a - b) for a, b in zip(decoded, true, strict=True)]
    np.testing.assert_allclose(patch_map("error", decoded, true), expected, rtol=1e-5)


def test_cosine_is_of_the_deviations_from_the_true_median(patches):
    decoded, true = patches
    median = np.median(true.reshape(7, -1), axis=0)
    a, b = decoded.reshape(7, -1) - median, true.reshape(7, -1) - median
    expected = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(patch_map("cosine", decoded, true), expected, rtol=1e-4)


def test_cosine_of_patches_that_are_typical():
    true = np.zeros((3, 2, 2, 3), np.float32)
    true[2] = 0.5
    decoded = true.copy()
    decoded[1] = 0.2
    assert patch_map("cosine", decoded, true).tolist() == [1, 0, 1]
    flat = np.zeros_like(true)
    assert patch_map("cosine", flat, true).tolist() == [1, 1, 0], (
        "a decoder that shows the median keeps no object"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_of_the_true_pixels(kind, patches):
    _, true = patches
    values = patch_map(kind, true, true)
    if kind == "error":
        assert (values == 0).all()
    elif kind == "cosine":
        np.testing.assert_allclose(values, 1, rtol=1e-6)
    else:
        assert np.ptp(values) > 0.1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_only_patches_that_are_not_finite_have_no_value(kind, broken, patches):
    decoded, true = patches
    whole = patch_map(kind, decoded, true)
    decoded = decoded.copy()
    decoded[3, 0, 0, 0] = broken
    values = patch_map(kind, decoded, true)
    assert np.isnan(values[3])
    assert np.isfinite(np.delete(values, 3)).all()
    if kind != "distance":  # the median of the others is another
        np.testing.assert_array_equal(np.delete(values, 3), np.delete(whole, 3))
    assert np.isnan(patch_map(kind, np.full_like(decoded, np.nan), true)).all()


def test_a_constant_image_has_distances_of_exactly_zero():
    plain = np.full((5, 3, 3, 3), 0.3, np.float32)
    assert (patch_map("distance", plain, plain) == 0).all()
    assert (patch_map("distance", plain[:1], plain[:1]) == 0).all()


def test_the_median_of_nothing_is_zero():
    assert (median_patch(np.full((2, 3), np.nan)) == 0).all()
