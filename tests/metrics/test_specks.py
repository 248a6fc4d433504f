"""Specks, pieces and coherence: against other implementations, planted and not planted."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label
from skimage.measure import euler_number

from emma_viz.metrics.coherence import coherence, cross_spectra, edge_agreement, half_band
from emma_viz.metrics.specks import euler, euler_curve, specks, surrogate


def test_pieces_less_holes_are_those_of_scikit_image():
    draw = np.random.default_rng(0)
    for share in (0.1, 0.3, 0.5, 0.8):
        cells = draw.random((12, 17)) < share
        assert euler(cells) == euler_number(cells, connectivity=2)
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    assert euler(ring) == 0
    assert euler(np.eye(2, dtype=bool)) == 1
    sparse = draw.random((20, 20)) < 0.05
    assert euler(sparse) == label(sparse, np.ones((3, 3)))[1]


def test_specks_that_were_planted_are_found_and_blobs_are_none():
    draw = np.random.default_rng(1)
    field = gaussian_filter(draw.normal(size=(24, 24)), 3)
    field /= field.std()
    assert specks(field).sum() == 0
    places = [(3, 4), (12, 20), (21, 7)]
    for place in places:
        field[place] += 30
    assert sorted(map(tuple, np.argwhere(specks(field)).tolist())) == places
    assert not specks(np.ones((5, 5))).any()


def test_a_surrogate_has_the_same_values_and_nearly_the_spectrum_but_not_the_places():
    field = gaussian_filter(np.random.default_rng(2).normal(size=(24, 24)), 2, mode="wrap")
    other = surrogate(field, seed=0)
    np.testing.assert_array_equal(np.sort(field, axis=None), np.sort(other, axis=None))
    one, two = (np.abs(np.fft.fft2(each)).ravel()[1:] for each in (field, other))
    assert np.corrcoef(one, two)[0, 1] > 0.95
    assert abs(np.corrcoef(field.ravel(), other.ravel())[0, 1]) < 0.5
    noise = np.random.default_rng(3).normal(size=(24, 24))
    assert np.abs(euler_curve(noise)).max() > 3 * np.abs(euler_curve(field)).max()
    np.testing.assert_array_equal(surrogate(np.stack([noise, field]), seed=0)[1], other)


def test_coherence_is_blind_to_gain_and_falls_where_detail_was_lost():
    draw = np.random.default_rng(4)
    true = draw.normal(size=(40, 32, 32))

    def curve(decoded):
        return coherence({name: each.sum(axis=0) for name, each in cross_spectra(decoded, true).items()})

    np.testing.assert_allclose(curve(0.1 * true), 1.0)
    assert curve(draw.normal(size=true.shape)).max() < 0.2
    frequency = np.fft.fftfreq(32, 1 / 32)
    low = np.hypot(frequency[:, None], frequency[None]) <= 8
    kept = np.fft.ifft2(np.fft.fft2(true) * low).real + 0.02 * draw.normal(size=true.shape)
    assert half_band(curve(kept)) == pytest.approx(9, abs=2)
    assert np.isnan(half_band(np.ones(4)))
    np.testing.assert_array_equal(half_band(np.array([[1, 0.4, 0.6], [0.1, 1, 1]])), [2, 1])
    parts = cross_spectra(kept, true)
    halves = [cross_spectra(kept[some], true[some]) for some in (slice(0, 15), slice(15, 40))]
    for name, each in parts.items():
        np.testing.assert_allclose(each, np.concatenate([half[name] for half in halves]), atol=1e-9)


def test_spectra_of_a_picture_that_is_not_square_know_its_frequency():
    rows = np.arange(16)[:, None] / 16
    wave = np.broadcast_to(np.cos(2 * np.pi * 3 * rows), (16, 24))[None]
    assert cross_spectra(wave, wave)["true"].argmax(axis=1) == 2
    assert cross_spectra(wave, wave)["true"].shape == (1, 8)


def test_edges_agree_whatever_the_sign_and_not_with_anothers():
    true = gaussian_filter(np.random.default_rng(5).normal(size=(3, 20, 20)), (0, 1, 1))
    np.testing.assert_allclose(edge_agreement(3 - true, true), 1.0)
    assert np.abs(edge_agreement(np.roll(true, 1, axis=0), true)).max() < 0.4
    assert np.isnan(edge_agreement(np.ones_like(true), true)).all()
