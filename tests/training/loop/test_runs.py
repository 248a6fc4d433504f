"""Runs that stop and go on, their rates, and what they show."""

import json
import re
import time

import numpy as np
import pytest
import torch
from torch import nn

from emma_viz.errors import TrainingError
from training.loop.config import Optimisation
from training.loop.run import learning_rate, make_optimizer, train

FEW = Optimisation(steps=6, batch=2, lr=1e-3, save_every=2)


def test_the_rate_can_stay_at_its_peak_for_a_while():
    settings = Optimisation(steps=100, batch=1, lr=1.0, warmup=0.1, constant=0.4)
    rates = [learning_rate(step, settings) for step in range(100)]
    assert rates[9:51] == [1.0] * 42
    assert rates[60] < 1.0


def test_rate_rises_then_falls_and_decay_spares_vectors():
    settings = Optimisation(steps=100, batch=1, lr=1.0, warmup=0.1, final=0.1)
    rates = [learning_rate(step, settings) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == 1.0
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    matrices, vectors = make_optimizer(nn.Linear(3, 2), settings).param_groups
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)
    assert [p.ndim for p in matrices["params"] + vectors["params"]] == [2, 1]


def quadratic(module):
    def loss_of_step(step):
        target = torch.from_numpy(np.random.default_rng(step).normal(size=(4, 3))).float()
        return (module(target) - target + 0.1 * torch.randn(4, 3)).square().mean(), {}

    return loss_of_step


def test_a_run_that_stopped_goes_on_bit_for_bit(tmp_path):
    def fresh():
        torch.manual_seed(0)
        return nn.Linear(3, 3)

    whole, halves = fresh(), fresh()
    train(whole, quadratic(whole), FEW, tmp_path / "a", title="a", progress=False)

    inner = quadratic(halves)

    def stop_at_five(step):
        if step == 5:
            raise KeyboardInterrupt
        return inner(step)

    with pytest.raises(KeyboardInterrupt):
        train(halves, stop_at_five, FEW, tmp_path / "b", title="b", progress=False)
    again = fresh()
    train(again, quadratic(again), FEW, tmp_path / "b", title="b", progress=False)
    assert torch.equal(whole.weight, again.weight)
    assert not torch.equal(whole.weight, halves.weight)
    assert sorted(path.name for path in (tmp_path / "b").glob("step-*")) == [
        "step-000004.pt",
        "step-000006.pt",
    ]


def test_a_loss_that_is_not_finite_stops_the_run_with_a_usable_checkpoint(tmp_path):
    module = nn.Linear(3, 3)
    inner = quadratic(module)

    def broken(step):
        loss, numbers = inner(step)
        return (loss * float("nan"), numbers) if step == 3 else (loss, numbers)

    with pytest.raises(TrainingError, match=r"nan at step 3.*lower the learning rate"):
        train(module, broken, FEW, tmp_path, title="x", progress=False)
    kept = torch.load(tmp_path / "step-000003.pt", weights_only=True)
    assert kept["step"] == 3
    assert kept["module"]["weight"].isfinite().all()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2]


def test_the_bar_shows_loss_rate_and_time_left(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    module = nn.Linear(3, 3)
    inner = quadratic(module)

    def slow(step):
        time.sleep(0.02)
        return inner(step)

    settings = Optimisation(steps=30, batch=2, lr=1e-3)
    train(module, slow, settings, tmp_path / "a", title="a run")
    form = r"a run: +\d+%\|.*?\| (\d+)/30 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+(?:it/s|s/it), loss=([\d.e+-]+)\]"
    shown = [(int(done), loss) for done, loss in re.findall(form, capsys.readouterr().err)]
    assert any(0 < done < 30 for done, _ in shown), "while it runs, not at its end alone"
    lines = [json.loads(line) for line in (tmp_path / "a/metrics.jsonl").read_text().splitlines()]
    assert {loss for _, loss in shown} <= {f"{lines[step]['loss']:.3g}" for step in (0, 10, 20)}
    train(module, inner, settings, tmp_path / "b", title="a run", progress=False)
    assert "a run" not in capsys.readouterr().err


def test_a_folder_of_another_run_is_refused(tmp_path):
    module = nn.Linear(3, 3)
    train(module, quadratic(module), FEW, tmp_path, title="x", progress=False)
    other = Optimisation(steps=6, batch=2, lr=1e-3, seed=5)
    with pytest.raises(TrainingError, match="another run"):
        train(module, quadratic(module), other, tmp_path, title="x", progress=False)
