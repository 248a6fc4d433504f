"""What docs/results.md measures, on values whose answers are known."""

import numpy as np
import pytest
import torch

from emma_viz.data.tabletop import KINDS
from emma_viz.lens.quality import r2 as plain_r2
from training.intervals import estimate
from training.measures import (
    F1,
    OCTAVES,
    LinearFit,
    caption_columns,
    foreground,
    octave_power,
    probe_columns,
    r2,
    residual_columns,
    shown_columns,
    spectrum,
)


def patches(seed, images=4):
    return np.random.default_rng(seed).random((images, 16, 8, 8, 3), dtype=np.float32)


def test_r2_of_columns_is_the_lens_own():
    true, decoded = patches(0), 0.7 * patches(0) + 0.3 * patches(1)
    found = estimate([residual_columns(decoded, true)], r2)
    assert found.value == pytest.approx(plain_r2(decoded, true), abs=1e-9)


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


def test_a_probe_reads_kinds_that_are_there_and_none_from_noise():
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, len(KINDS) + 1, (20, 64))
    codes = torch.from_numpy(rng.normal(size=(len(KINDS) + 1, 40))).float()

    def accuracy(states):
        front, target = foreground(kinds)
        fit = LinearFit(1)
        fit.add(states[torch.from_numpy(front)][None], target)
        columns = probe_columns(fit.result()[0], states, kinds)
        assert columns["probe_asked"].sum() == front.sum()
        return columns["probe_right"].sum() / columns["probe_asked"].sum()

    assert accuracy(codes[torch.from_numpy(kinds)]) > 0.95
    assert accuracy(torch.randn(20, 64, 40, generator=torch.Generator().manual_seed(0))) < 0.3


def test_f1_of_the_kinds_in_captions():
    columns = caption_columns(["A red cup and a fork.", "Two hats."], [("cup",), ("hat", "key")])
    assert estimate([columns], F1).value == pytest.approx(2 * 2 / (3 + 3))
