"""measure: the numbers of the retention curves."""

import math

import numpy as np
import pytest
from PIL import Image

from emma_viz.data.geometry import Geometry
from emma_viz.data.provenance import ModelInfo
from emma_viz.lens.info import LensInfo
from emma_viz.maps import measure
from emma_viz.maps.decoding import Decoding
from emma_viz.metrics import correlation, psnr, r2, ssim


def decoding(change, *, views: np.ndarray, layers=(0, 5)) -> Decoding:
    place = Geometry(image_size=(12, 12), strategy="resize-naive", size=12, patch=4)
    true = np.stack([place.patches(view) for view in views]).astype(np.float32) / 255
    model = ModelInfo(
        name="toy", source="toy", family="emma", fingerprint="f", dtype="float32",
        n_layer=6, d_model=4, ssm="mamba1", grid=(3, 3),
    )  # fmt: skip
    lens = LensInfo(
        kind="ridge", model_name="toy", model_fingerprint="f", site="resid_post", layers=layers,
        patch=4, grid=(3, 3), fitted_on="noise", n_fit=1, n_heldout=0,
    )  # fmt: skip
    return Decoding(
        patches=np.stack([change(layer, true) for layer in layers]).astype(np.float32),
        true=true,
        layers=layers,
        site="resid_post",
        model=model,
        lens=lens,
        geometry=(place,) * len(views),
        views=views,
        images=tuple(Image.fromarray(view) for view in views),
        image_hashes=tuple(str(index) for index in range(len(views))),
        prompts=("what?",) * len(views),
    )


@pytest.fixture
def views():
    return np.random.default_rng(0).integers(0, 256, size=(2, 12, 12, 3), dtype=np.uint8)


def noisy(layer: int, patches: np.ndarray) -> np.ndarray:
    return patches + 0.1 * layer * np.random.default_rng(layer).normal(size=patches.shape)


def test_every_number_is_its_definition(views):
    decoded = decoding(noisy, views=views)
    scores = measure(decoded)
    assert [score.layer for score in scores] == [0, 5]
    shown, truth, maps = decoded.decoded_images(), decoded.true_images(), decoded.maps()
    for index, score in enumerate(scores):
        assert score.r2 == pytest.approx(r2(decoded.patches[index], decoded.true))
        for sample, image in enumerate(score.images):
            assert image.r2 == pytest.approx(r2(decoded.patches[index, sample], decoded.true[sample]))
            assert image.psnr == pytest.approx(psnr(shown[index, sample], truth[sample]))
            assert image.ssim == pytest.approx(ssim(shown[index, sample], truth[sample]))
            expected = correlation(maps.values[index, sample], maps.true[sample])
            assert image.correlation == pytest.approx(expected, abs=1e-6)
        assert score.ssim == pytest.approx(np.mean([image.ssim for image in score.images]))
    assert scores[0].r2 == 1
    assert scores[0].psnr == math.inf
    assert scores[1].r2 < 0.9


def test_images_without_a_correlation_do_not_count_in_the_mean(views):
    views[1] = 90
    score = measure(decoding(noisy, views=views))[1]
    assert math.isnan(score.images[1].correlation)
    assert score.correlation == score.images[0].correlation


def test_the_kind_of_map_can_be_chosen(views):
    decoded = decoding(noisy, views=views)
    magnitude, error = measure(decoded, kind="magnitude")[1], measure(decoded, kind="error")[1]
    assert magnitude.correlation != measure(decoded)[1].correlation
    assert math.isnan(error.correlation)
