"""Rows of implicit attention: the closed form, the scan, autograd and the mixer itself agree."""

from copy import deepcopy

import pytest
import torch
from torch.nn import functional

from emma_viz.errors import InputError
from emma_viz.evidence.mixers.implicit_attention import attention_rows, scan_rows, share_on
from emma_viz.evidence.mixers.routing import carried, convolved, project_in, routing_of
from emma_viz.models import Mamba1Mixer

LENGTH = 13
FP32 = {"rtol": 1e-5, "atol": 1e-6}
"""Against the mixer itself, which computes its decays and biases in fp32 whatever its weights are."""


@pytest.fixture(scope="module")
def mixer(model):
    """One mixer in double precision, with a bias that can be seen."""
    found = deepcopy(model.vlm.llm.backbone.layers[1].mixer).double()
    torch.manual_seed(4)
    with torch.no_grad():
        found.conv1d.bias.normal_(std=0.5)
        found.D.normal_()
    return found


@pytest.fixture(scope="module")
def normed(mixer):
    return torch.randn(
        LENGTH, mixer.config.d_model, generator=torch.Generator().manual_seed(5), dtype=torch.float64
    )


def routing(mixer, normed):
    inputs = project_in(mixer, normed[None])
    c = convolved(mixer, inputs.x) + mixer.conv1d.bias
    return routing_of(mixer, c, inputs.dt)


def closed_form(mixer, held, i):
    """The sum over states written out, one pair of positions after another."""
    delta, B, C = held.delta[0], held.B[0], held.C[0]
    row = torch.zeros(LENGTH, mixer.config.d_inner, dtype=torch.float64)
    for j in range(i + 1):
        passed = delta[j + 1 : i + 1].sum(dim=0)
        if isinstance(mixer, Mamba1Mixer):
            row[j] = delta[j] * (C[i] * B[j] * torch.exp(held.decay * passed[:, None])).sum(dim=-1)
        else:
            heads = mixer.config.n_heads // mixer.config.ngroups
            meet = (C[i] * B[j]).sum(dim=-1).repeat_interleave(heads)
            row[j] = (delta[j] * meet * torch.exp(held.decay * passed)).repeat_interleave(
                mixer.config.headdim
            )
    skip = held.skip if isinstance(mixer, Mamba1Mixer) else held.skip.repeat_interleave(mixer.config.headdim)
    row[i] += skip
    return row


def test_recurrence_closed_form_and_autograd_agree(mixer, normed):
    with torch.no_grad():
        held = routing(mixer, normed)
        rows = scan_rows(mixer, held, [0, 5, LENGTH - 1])
        torch.testing.assert_close(rows[1], closed_form(mixer, held, 5), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(rows[2], closed_form(mixer, held, LENGTH - 1), rtol=1e-10, atol=1e-12)
    assert not rows[1, 6:].any(), "nothing comes from what lies behind"
    u = torch.randn(1, LENGTH, mixer.config.d_inner, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(carried(mixer, u, held)[0, 5].sum(), u)
    torch.testing.assert_close(rows[1], slope[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("positions", [[LENGTH - 1], [0, 1, 2, 3], [7, 3]])
def test_the_tokens_vectors_and_the_bias_sum_to_the_mixers_output(mixer, normed, positions):
    rows = attention_rows(mixer, normed, positions)
    with torch.no_grad():
        expected = mixer(normed[None])[0, positions]
    torch.testing.assert_close(rows.vectors().sum(dim=1) + rows.bias_vectors(), expected, **FP32)
    direction = torch.randn(
        mixer.config.d_model, generator=torch.Generator().manual_seed(6), dtype=torch.float64
    )
    tokens, bias = rows.along(direction)
    torch.testing.assert_close(tokens.sum(dim=1) + bias, expected @ direction, **FP32)
    torch.testing.assert_close(rows.norms(), rows.vectors().norm(dim=-1))
    shares = rows.bias_share()
    assert ((shares > 0) & (shares < 1)).all()


def test_a_position_takes_nothing_from_one_that_was_cut(mixer, normed):
    """Rows against removing: with the routing held, taking away what a position carries takes away its vector."""
    with torch.no_grad():
        inputs = project_in(mixer, normed[None])
        held = routing(mixer, normed)
        inner = mixer.config.d_inner

        def last(x):
            c = convolved(mixer, x) + mixer.conv1d.bias
            return carried(mixer, held.secant * c[..., :inner], held)[0, -1]

        without = inputs.x.clone()
        without[:, 4] = 0
        fall = (last(inputs.x) - last(without)) * functional.silu(inputs.z[0, -1])
        rows = attention_rows(mixer, normed, [LENGTH - 1])
        taken = rows.weights[0, 4] * rows.x[4]
        if not isinstance(mixer, Mamba1Mixer):
            scale = taken / fall
            # The norm's own factor is one number for a group, held as it was.
            weight = mixer.norm.weight
            torch.testing.assert_close(
                scale / weight, (scale / weight)[:1].expand_as(scale), rtol=1e-6, atol=1e-9
            )
        else:
            torch.testing.assert_close(taken, fall, rtol=1e-9, atol=1e-12)


def test_a_sequence_of_one_token_and_positions_that_are_not_there(mixer, normed):
    rows = attention_rows(mixer, normed[:1], [0])
    with torch.no_grad():
        expected = mixer(normed[None, :1])[0]
    torch.testing.assert_close(rows.vectors().sum(dim=1) + rows.bias_vectors(), expected, **FP32)
    for positions in ([], [LENGTH], [-1]):
        with pytest.raises(InputError, match="positions"):
            attention_rows(mixer, normed, positions)


def test_shares_of_the_image():
    rows = torch.tensor([[1.0, -1.0, 2.0], [0.0, 0.0, 3.0]])
    torch.testing.assert_close(share_on(rows, 2), torch.tensor([0.5, 0.0]))
