"""R², PSNR, SSIM and correlation against their definitions and against scikit-image and numpy."""

import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from emma_viz.metrics.quality import correlation, psnr, r2, ssim


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    true = rng.random((16, 20, 3))
    return np.clip(true + 0.1 * rng.normal(size=true.shape), 0, 1), true


def test_r2_is_one_minus_the_unexplained_share_about_the_mean_of_each_channel(pair):
    decoded, true = pair
    total = sum(((true[..., c] - true[..., c].mean()) ** 2).sum() for c in range(3))
    assert r2(decoded, true) == pytest.approx(1 - ((decoded - true) ** 2).sum() / total)


def test_r2_of_perfect_mean_and_worse_decodings(pair):
    _, true = pair
    assert r2(true, true) == 1
    assert r2(np.broadcast_to(true.mean(axis=(0, 1)), true.shape), true) == pytest.approx(0)
    assert r2(1 - true, true) < -1


def test_r2_of_a_plain_image_is_not_a_number():
    assert math.isnan(r2(np.zeros((4, 4, 3)), np.full((4, 4, 3), 0.3)))
    assert math.isnan(r2(np.full((4, 4, 3), np.nan), np.random.default_rng(0).random((4, 4, 3))))


def test_psnr_agrees_with_scikit_image_and_is_infinite_for_equal_images(pair):
    decoded, true = pair
    assert psnr(decoded, true) == pytest.approx(peak_signal_noise_ratio(true, decoded, data_range=1))
    assert psnr(true, true) == math.inf
    assert math.isnan(psnr(np.full_like(true, np.nan), true))


def test_psnr_and_ssim_take_the_image_as_shown(pair):
    _, true = pair
    beyond = np.where(true > 0.5, true + 1, true)
    assert psnr(beyond, true) == psnr(np.clip(beyond, 0, 1), true)
    assert ssim(beyond, true) == ssim(np.clip(beyond, 0, 1), true)


def test_ssim_of_equal_small_and_broken_images(pair):
    _, true = pair
    assert ssim(true, true) == pytest.approx(1)
    assert ssim(1 - true, true) < 0.5
    assert math.isnan(ssim(true[:6], true[:6]))
    assert math.isnan(ssim(np.full_like(true, np.nan), true))


def test_correlation_agrees_with_numpy_and_leaves_out_what_is_not_finite():
    rng = np.random.default_rng(0)
    a, b = rng.random((5, 6)), rng.random((5, 6))
    assert correlation(a, b) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    broken = a.copy()
    broken[0] = np.nan
    assert correlation(broken, b) == pytest.approx(correlation(a[1:], b[1:]))
    assert correlation(a, -3 * a + 2) == pytest.approx(-1)


@pytest.mark.parametrize(
    "values",
    [np.full((3, 3), 0.2), np.full((3, 3), np.nan), np.full((3, 3), 0.2) + 1e-9 * np.arange(9).reshape(3, 3)],
)
def test_correlation_with_a_constant_map_is_not_a_number(values):
    assert math.isnan(correlation(values, np.random.default_rng(0).random((3, 3))))


def test_correlation_of_a_single_cell_is_not_a_number():
    assert math.isnan(correlation(np.ones((1, 1)), np.zeros((1, 1))))
