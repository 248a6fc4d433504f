"""Colour scales: what is shared is shared, what is not is not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emma_viz.data.geometry import Geometry
from emma_viz.errors import InputError
from emma_viz.maps.difference import map_difference
from emma_viz.maps.joining import share_limits
from emma_viz.maps.scale import limits_of, normalise

KINDS = ("distance", "magnitude", "error", "cosine")


def faded(layer: int, patches: np.ndarray) -> np.ndarray:
    """A decoding that fades to grey with depth: layer 0 is perfect."""
    return 0.5 + (patches - 0.5) / (1 + layer)


def test_the_shapes_and_the_source(make_decoding):
    decoding = make_decoding(faded, layers=(0, 1, 2), batch=2)
    maps = decoding.maps()
    assert maps.kind == "distance"
    assert maps.scale == "shared"
    assert maps.values.shape == (3, 2, 3, 3)
    assert maps.true.shape == (2, 3, 3)
    assert maps.limits.shape == (3, 2, 2)
    assert maps.correlation.shape == (3, 2)
    assert maps.decoding is decoding
    assert maps.layers == (0, 1, 2)


def test_rows_and_columns_are_those_of_the_image(make_decoding, make_views):
    views = np.zeros_like(make_views(1))
    views[0, 0:4, 8:12] = 255  # the patch in row 0, column 2
    maps = make_decoding(views=views).maps()
    expected = np.zeros((3, 3))
    expected[0, 2] = np.sqrt(4 * 4 * 3)
    np.testing.assert_allclose(maps.true[0], expected)
    np.testing.assert_allclose(maps.values[1, 0], expected)


def test_shared_limits_come_from_the_true_pixels_alone(make_decoding):
    maps = make_decoding(faded, layers=(0, 1, 8)).maps(scale="shared")
    for sample in range(2):
        expected = np.percentile(maps.true[sample], (2, 98))
        for layer in range(3):
            np.testing.assert_allclose(maps.limits[layer, sample], expected, rtol=1e-6)
    assert not np.allclose(maps.limits[0, 0], maps.limits[0, 1]), "each image has its own scale"


def test_a_shared_scale_shows_that_deep_maps_fade(make_decoding):
    """Fails when each map is stretched to its own range while the scale says shared."""
    maps = make_decoding(faded, layers=(0, 1, 8)).maps(scale="shared")
    shown = maps.normalised()
    assert shown[0].max() == 1
    assert shown[2].max() < 0.2
    np.testing.assert_allclose(maps.values[1] * 2, maps.values[0], rtol=1e-4)
    low, high = maps.limits[0, 0]
    np.testing.assert_allclose(
        shown[1, 0], np.clip((maps.values[1, 0] - low) / (high - low), 0, 1), rtol=1e-5
    )


def test_per_map_stretches_every_map_and_per_row_all_layers_together(make_decoding):
    decoding = make_decoding(faded, layers=(0, 1, 8))
    own = decoding.maps(scale="per_map")
    for layer in range(3):
        assert (own.limits[layer, 1] == limits_of(own.values[layer, 1], own.rest)).all()
    row = decoding.maps(scale="per_row")
    np.testing.assert_allclose(row.limits[0, 1], np.percentile(row.values[:, 1], (2, 98)), rtol=1e-6)
    assert (row.limits[0] == row.limits[2]).all()
    assert row.normalised()[2].max() < 0.5


def test_fixed_limits_are_taken_as_given(make_decoding):
    maps = make_decoding(faded).maps(scale="fixed", limits=(0.5, 2.0))
    assert (maps.vmin == 0.5).all()
    assert (maps.vmax == 2).all()
    np.testing.assert_array_equal(maps.true_limits(), [[0.5, 2], [0.5, 2]])


@pytest.mark.parametrize(
    ("scale", "limits"), [("fixed", None), ("shared", (0, 1)), ("fixed", (1, 1)), ("fixed", (0, np.nan))]
)
def test_limits_that_contradict_the_scale_are_refused(make_decoding, scale, limits):
    with pytest.raises(InputError, match="limits"):
        make_decoding().maps(scale=scale, limits=limits)


def test_unknown_kinds_and_scales_are_refused(make_decoding):
    with pytest.raises(InputError, match=r"no map kind 'entropy'.*distance"):
        make_decoding().maps("entropy")
    with pytest.raises(InputError, match=r"no scale 'log'.*shared"):
        make_decoding().maps("distance", scale="log")


def test_shared_limits_of_kinds_that_compare_with_the_truth(make_decoding):
    decoding = make_decoding(faded)
    error, distance, cosine = (decoding.maps(kind) for kind in ("error", "distance", "cosine"))
    assert (error.vmin == 0).all()
    np.testing.assert_allclose(error.vmax, distance.vmax)
    assert (cosine.limits == [-1, 1]).all()
    assert np.isnan(error.correlation).all()
    assert np.isnan(cosine.correlation).all()


@pytest.mark.parametrize("kind", ["distance", "magnitude"])
def test_the_correlation_is_with_the_same_map_of_the_true_pixels(make_decoding, kind):
    maps = make_decoding(lambda layer, patches: patches if layer == 0 else np.roll(patches, 1, axis=1)).maps(
        kind
    )
    np.testing.assert_allclose(maps.correlation[0], 1, rtol=1e-6)
    for sample in range(2):
        expected = np.corrcoef(maps.values[1, sample].ravel(), maps.true[sample].ravel())[0, 1]
        assert maps.correlation[1, sample] == pytest.approx(expected, abs=1e-5)
        assert maps.correlation[1, sample] < 0.9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", ["shared", "per_map", "per_row"])
@pytest.mark.parametrize("value", [0.3, np.nan])
def test_constant_and_broken_maps_are_shown_without_a_warning(make_decoding, make_views, kind, scale, value):
    views = np.full_like(make_views(1), 80)
    maps = make_decoding(lambda layer, patches: np.full_like(patches, value), views=views).maps(
        kind, scale=scale
    )
    shown = maps.normalised()
    assert np.isnan(shown).all() if np.isnan(value) else ((shown >= 0) & (shown <= 1)).all()
    assert (maps.limits[..., 0] < maps.limits[..., 1]).all()
    assert np.isfinite(maps.true_limits()).all()
    assert np.isnan(maps.correlation).all()


def test_models_that_see_other_pixels_share_the_scale_that_spans_both(make_decoding, make_views):
    views = make_views(2)
    first, second = make_decoding(views=views).maps(), make_decoding(faded, views=views // 2).maps()
    shared = share_limits([first, second])
    for each in shared:
        assert each.limits.shape == (2, 2, 2)
        np.testing.assert_array_equal(each.limits, shared[0].limits)
    np.testing.assert_array_equal(shared[0].vmin, np.minimum(first.vmin, second.vmin))
    np.testing.assert_array_equal(shared[0].vmax, np.maximum(first.vmax, second.vmax))


def test_models_that_see_the_same_pixels_have_one_scale_already(make_decoding):
    first, second = make_decoding().maps(), make_decoding(faded).maps()
    np.testing.assert_array_equal(first.limits, second.limits)
    for each in share_limits([first, second]):
        np.testing.assert_array_equal(each.limits, first.limits)


def test_scales_of_their_own_stay_their_own(make_decoding):
    maps = [make_decoding(change).maps(scale="per_map") for change in (faded, lambda _, patches: patches)]
    assert share_limits(maps) == tuple(maps)


def test_maps_that_cannot_share_a_scale_are_refused(make_decoding):
    decoding = make_decoding()
    other = make_decoding(image_hashes=("a", "b"))
    for second in (decoding.maps("error"), decoding.maps(scale="per_map"), other.maps()):
        with pytest.raises(InputError, match="one kind, one scale and the same images"):
            share_limits([decoding.maps(), second])


@given(st.floats(-5, 5), st.floats(0, 5))
def test_normalised_values_lie_between_zero_and_one(low, extent):
    values = np.array([[[-10, low, low + extent, 10, np.nan]]], np.float32)
    shown = normalise(values, np.array([[low, low + extent]], np.float32))
    assert np.isnan(shown[0, 0, 4])
    assert shown[0, 0, :4].min() == 0
    assert shown[0, 0, :4].max() == 1
    assert (np.diff(shown[0, 0, :4]) >= 0).all()


def test_the_difference_is_of_raw_values(make_decoding):
    first, second = make_decoding(layers=(0, 2, 3)).maps(), make_decoding(faded, layers=(3, 1, 0)).maps()
    compared = map_difference(first, second)
    np.testing.assert_array_equal(compared.values, first.values[[0, 2]] - second.values[[2, 0]])
    assert compared.layers == (0, 3)
    assert compared.names == ("toy", "toy")
    np.testing.assert_allclose(compared.limit[1], np.percentile(np.abs(compared.values[:, 1]), 98), rtol=1e-6)


def test_maps_that_cannot_be_subtracted_are_refused(make_decoding):
    maps = make_decoding().maps()
    with pytest.raises(InputError, match="one kind"):
        map_difference(maps, make_decoding().maps("error"))
    with pytest.raises(InputError, match="no layer in common"):
        map_difference(maps, make_decoding(layers=(1,)).maps())
    elsewhere = Geometry(image_size=(30, 20), strategy="letterbox", size=13, patch=4)
    with pytest.raises(InputError, match="lie elsewhere in the image"):
        map_difference(maps, make_decoding(geometry=(elsewhere,) * 2).maps())


def test_a_single_patch(make_decoding, make_views):
    place = Geometry(image_size=(9, 9), strategy="resize-naive", size=13, patch=13)
    views = make_views(1)
    true = np.stack([place.patches(view) for view in views]).astype(np.float32) / 255
    decoding = make_decoding(views=views)
    decoding = type(decoding)(
        **{**vars(decoding), "patches": np.stack([true, true]), "true": true, "geometry": (place,)}
    )
    maps = decoding.maps()
    assert maps.values.shape == (2, 1, 1, 1)
    assert np.isnan(maps.correlation).all()
    assert np.isfinite(maps.normalised()).all()
