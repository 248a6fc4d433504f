"""The payload's numbers are those of the Python API."""

import base64
import json

import numpy as np
import pytest

from emma_viz.maps import map_difference, measure
from emma_viz.session import Running, View, compare
from emma_viz.session.payload import KIND_WORDS, payload


@pytest.fixture(scope="module")
def comparison(pair, photos):
    return compare(
        [str(photo) for photo in photos], pair.models, running=Running(vision_source=str(pair.vision))
    )


@pytest.fixture(scope="module", params=[0, 1])
def sample(request):
    return request.param


@pytest.fixture(scope="module")
def sent(comparison, sample):
    return json.loads(json.dumps(payload(comparison, sample=sample), allow_nan=False))


def floats(text, *shape):
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(shape)


@pytest.mark.parametrize("kind", KIND_WORDS)
@pytest.mark.parametrize("scale", ["shared", "per_row", "per_map"])
def test_maps_and_limits_are_those_of_the_api(comparison, sent, sample, kind, scale):
    one = [each.select(samples=[sample]) for each in comparison.decodings]
    expected = type(comparison)(decodings=tuple(one)).maps(View(map_kind=kind, scale=scale))
    for model, maps in zip(sent["models"], expected, strict=True):
        found = model["maps"][kind]
        layers, (rows, columns) = len(model["layers"]), model["grid"]
        np.testing.assert_array_equal(floats(found["values"], layers, rows, columns), maps.values[:, 0])
        np.testing.assert_array_equal(floats(found["true"], rows, columns), maps.true[0])
        limits = found["limits"][scale] if scale == "per_map" else [found["limits"][scale]] * layers
        np.testing.assert_allclose(limits, maps.limits[:, 0], rtol=1e-6)
        np.testing.assert_allclose(found["limits"]["true"][scale], maps.true_limits()[0], rtol=1e-6)
        correlation = [np.nan if value is None else value for value in found["correlation"]]
        np.testing.assert_allclose(correlation, maps.correlation[:, 0], rtol=1e-6)


def test_scores_pixels_and_places_are_those_of_the_api(comparison, sent, sample):
    for model, decoding in zip(sent["models"], comparison.decodings, strict=True):
        scores = [score.images[sample] for score in measure(decoding)]
        assert model["scores"]["r2"] == pytest.approx([score.r2 for score in scores])
        assert model["scores"]["psnr"] == pytest.approx([score.psnr for score in scores])
        shown = decoding.decoded_images()[:, sample]
        pixels = np.frombuffer(base64.b64decode(model["decoded"]["data"]), np.uint8).reshape(shown.shape)
        assert np.abs(pixels / 255 - shown).max() <= 0.5 / 255 + 1e-6
        true = np.frombuffer(base64.b64decode(model["truth"]), np.uint8) / 255
        np.testing.assert_allclose(true, decoding.true_images()[sample].ravel(), atol=1e-6)
        assert model["lens_quality"][0]["r2"] == decoding.lens.quality_of(decoding.layers[0]).r2
        place = decoding.geometry[0]
        sides = np.array(place.image_size)[:, None, None]
        np.testing.assert_allclose(np.array(model["spans"]) * sides, np.array(place.spans))
    assert sent["image"]["hash"] == comparison.decodings[0].image_hashes[sample]
    assert tuple(sent["image"]["size"]) == comparison.decodings[0].images[sample].size


def test_the_scale_of_a_difference_is_that_of_the_figure(comparison):
    sent = payload(comparison)
    for kind in KIND_WORDS:
        one = comparison.maps(View(map_kind=kind))
        assert sent["differences"]["0,1"][kind] == map_difference(*one).limit[0]
    spec = comparison.spec(View(difference=True))
    assert spec.images[0].difference_limit == sent["differences"]["0,1"]["distance"]


def test_large_pictures_go_as_files(comparison, monkeypatch):
    monkeypatch.setattr("emma_viz.session.payload.RAW_BYTES", 10)
    decoded = payload(comparison)["models"][0]["decoded"]
    assert decoded["encoding"] == "pictures"
    assert len(decoded["data"]) == len(comparison.decodings[0].layers)
    assert all(address.startswith("data:image/png;base64,") for address in decoded["data"])


def test_a_small_payload_has_inexact_pictures_and_exact_numbers(comparison):
    exact, small = payload(comparison), payload(comparison, small=True)
    assert small["image"].pop("src").startswith("data:image/webp;base64,")
    del exact["image"]["src"]
    for one, other in zip(exact["models"], small["models"], strict=True):
        pictures = [len(each.pop("decoded")["data"]) for each in (one, other)]
        assert pictures[1] == len(comparison.decodings[0].layers)
    assert exact == small
