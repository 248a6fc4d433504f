"""Muon beside AdamW: against torch.optim.Muon, and in the loop."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from emma_viz.errors import TrainingError
from training.loop.config import Optimisation
from training.loop.distribution import LocalEngine
from training.loop.muon import MuonAdamW, orthogonal
from training.loop.run import Run, make_optimizer, train

SETTINGS = Optimisation(steps=4, batch=1, lr=0.02, save_every=2, muon=("blocks.",))


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(6, 10), nn.Linear(10, 3)])
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        for block in self.blocks:
            x = torch.tanh(block(x))
        return self.head(x)


def loss_of(model, step):
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
    return (model(x) - x[:, :2].sin()).square().mean()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Small()


def test_matrices_of_blocks_move_as_torch_moves_them_and_the_rest_as_adamw_does(model):
    torch.manual_seed(0)
    twin = Small()
    ours = make_optimizer(model, SETTINGS)
    matrices = [block.weight for block in twin.blocks]
    rest = [p for p in twin.parameters() if all(p is not m for m in matrices)]
    vectors = [p for p in rest if p.ndim == 1]
    theirs = [
        torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(
            [{"params": vectors, "weight_decay": 0.0}, {"params": [twin.head.weight]}],
            lr=0.02, weight_decay=0.1, betas=SETTINGS.betas,
        ),
    ]  # fmt: skip
    assert isinstance(ours, MuonAdamW)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    for step in range(5):
        for each, optimizers in ((model, [ours]), (twin, theirs)):
            each.zero_grad()
            loss_of(each, step).backward()
            for optimizer in optimizers:
                optimizer.step()
    for (name, mine), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        moved = (other - start[name]).norm()
        assert moved > 0.01
        # torch's Muon computes in bf16.
        assert (mine - other).norm() < 0.03 * moved, name


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5)])
def test_an_update_has_singular_values_near_one_and_the_directions_of_the_gradient(shape):
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, s, vh = torch.linalg.svd(gradient, full_matrices=False)
    assert s.max() / s.min() > 1.5
    update = orthogonal(gradient)
    turned = u.T @ update @ vh.T
    assert (turned.diagonal() > 0.6).all()
    assert (turned.diagonal() < 1.3).all()
    assert torch.allclose(turned, torch.diag(turned.diagonal()), atol=1e-4)


def test_a_stopped_run_goes_on_bit_for_bit(model, tmp_path):
    torch.manual_seed(0)
    whole, stopped = Small(), model
    train(whole, lambda i: (loss_of(whole, i), {}), SETTINGS, tmp_path / "whole", title="w", progress=False)

    def break_off(step):
        if step == 3:
            raise KeyboardInterrupt
        return loss_of(stopped, step), {}

    with pytest.raises(KeyboardInterrupt):
        train(stopped, break_off, SETTINGS, tmp_path / "part", title="p", progress=False)
    fresh = Small()
    train(fresh, lambda i: (loss_of(fresh, i), {}), SETTINGS, tmp_path / "part", title="p", progress=False)
    for mine, other in zip(fresh.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_shards_are_refused(model, tmp_path):
    engine = LocalEngine()
    engine.sharded = True
    with pytest.raises(TrainingError, match="without FSDP"):
        Run(model, SETTINGS, tmp_path, title="x", engine=engine)
    Run(model, replace(SETTINGS, muon=()), tmp_path, title="x", engine=LocalEngine())
