"""Sums per image and the spectrum, on values whose answers are known."""

import numpy as np
import pytest

from emma_viz.metrics.intervals import estimate
from emma_viz.metrics.quality import r2
from emma_viz.metrics.spectrum import OCTAVES, octave_power, spectrum
from emma_viz.metrics.sums import pooled_r2, residual_columns, shown_columns


def patches(seed, images=4):
    return np.random.default_rng(seed).random((images, 16, 8, 8, 3), dtype=np.float32)


def test_r2_of_columns_is_the_lens_own():
    true, decoded = patches(0), 0.7 * patches(0) + 0.3 * patches(1)
    found = estimate([residual_columns(decoded, true)], pooled_r2)
    assert found.value == pytest.approx(r2(decoded, true), abs=1e-9)


@pytest.mark.parametrize("tone", [0.0, 0.1, 1 / 3, 1.0])
def test_one_tone_has_no_r2_whoever_asks(tone):
    true = np.full((2, 16, 8, 8, 3), tone, np.float32)
    decoded = true + np.float32(0.1)
    columns = residual_columns(decoded, true)
    assert np.isnan(r2(decoded, true))
    assert np.isnan(pooled_r2(columns)).all()
    assert np.isnan(pooled_r2({name: values.sum() for name, values in columns.items()}))


def test_pixels_that_are_not_finite_have_no_r2_whoever_asks():
    true, decoded = patches(0), patches(1)
    decoded[1, 0] = np.inf
    each = pooled_r2(residual_columns(decoded, true))
    assert np.isnan(r2(decoded, true))
    assert np.isnan(each).tolist() == [False, True, False, False]


def test_power_counts_every_frequency_once_and_in_its_octave():
    image = np.random.default_rng(0).random((1, 32, 32, 3))
    variance = np.square(image - image.mean(axis=(1, 2), keepdims=True)).sum() * 32 * 32
    assert octave_power(image).sum() == pytest.approx(variance)
    wave = np.cos(2 * np.pi * 5 * np.arange(64) / 64)[None, None, :, None] * np.ones((1, 64, 1, 3))
    power = octave_power(wave)[0]
    assert power.argmax() == OCTAVES.index(4)
    assert power[OCTAVES.index(4)] == pytest.approx(power.sum())


def test_a_blurred_picture_lacks_fine_power_and_a_sharp_one_has_it():
    true = patches(0)
    flat = np.broadcast_to(true.mean(axis=(2, 3), keepdims=True), true.shape)
    exact, blurred = (shown_columns(each, true, (4, 4)) for each in (0.999 * true, flat))
    assert estimate([exact], spectrum(8)).value == pytest.approx(0.998, abs=1e-3)
    assert estimate([blurred], spectrum(8)).value < 0.1
