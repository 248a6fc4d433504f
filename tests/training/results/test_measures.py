"""What docs/results.md measures of states and answers, on values whose answers are known."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from emma_viz.data.tabletop import KINDS, named_kinds
from emma_viz.lens.readout import LinearFit
from emma_viz.metrics.intervals import estimate
from training.results.cells import ranged, signed_range, widest
from training.results.figure import answers
from training.results.measures import F1, caption_columns, foreground, probe_columns


def test_a_probe_reads_kinds_that_are_there_and_none_from_noise():
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, len(KINDS) + 1, (20, 64))
    codes = torch.from_numpy(rng.normal(size=(len(KINDS) + 1, 40))).float()

    def accuracy(states):
        front, target = foreground(kinds, len(KINDS))
        fit = LinearFit(1)
        fit.add(states[torch.from_numpy(front)][None], target)
        columns = probe_columns(fit.result()[0], states, kinds)
        assert columns["probe_asked"].sum() == front.sum()
        return columns["probe_right"].sum() / columns["probe_asked"].sum()

    assert accuracy(codes[torch.from_numpy(kinds)]) > 0.95
    assert accuracy(torch.randn(20, 64, 40, generator=torch.Generator().manual_seed(0))) < 0.3


def test_f1_of_the_kinds_in_captions():
    columns = caption_columns(
        [named_kinds(each) for each in ("A red cup and a fork.", "Two hats.")],
        [frozenset({"cup"}), frozenset({"hat", "key"})],
    )
    assert estimate([columns], F1).value == pytest.approx(2 * 2 / (3 + 3))


def test_numbers_of_one_image_stand_without_an_interval_in_tables_and_figure():
    one = estimate([caption_columns([frozenset({"cup"})], [frozenset({"cup", "hat"})])], F1).to_json()
    assert (one["low"], one["high"]) == (None, None)
    assert (ranged(one), signed_range(one), widest([one])) == ("0.667", "+0.667", ["—", "—"])
    figure, axes = plt.subplots()
    told = {"answers": {"kind": {"accuracy": one, "parts": {}}}, "captions_f1": one, "captions_f1_parts": {}}
    answers(axes, {"tiny": told})
    bars = [bar for container in axes.containers for lines in container[2] for bar in lines.get_segments()]
    assert len(bars) == 2
    assert all(np.ptp(bar[:, 0]) == 0 for bar in bars)
    figure.savefig("/dev/null", format="png")
    plt.close(figure)
