"""Weights are shuffled inside the block, and every number is back in its place behind it."""

import numpy as np
import pytest
import torch
from torch import nn

from emma_viz.evidence.shuffled_weights import shuffled_weights


def test_numbers_are_shuffled_and_come_back():
    torch.manual_seed(0)
    part = nn.Linear(5, 7)
    whole = nn.Sequential(part, nn.LayerNorm(7), part)
    before = {name: each.clone() for name, each in whole.state_dict().items()}
    with shuffled_weights([whole, part], seed=3):
        inside = whole[0].weight.detach().clone()
        assert not torch.equal(inside, before["0.weight"])
        np.testing.assert_array_equal(
            inside.flatten().sort().values, before["0.weight"].flatten().sort().values
        )
    with shuffled_weights([whole], seed=3):
        torch.testing.assert_close(whole[0].weight.detach(), inside, rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="inside"), shuffled_weights([whole]):
        raise RuntimeError("inside")
    for name, each in whole.state_dict().items():
        torch.testing.assert_close(each, before[name], rtol=0, atol=0)
