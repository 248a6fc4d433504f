"""Mamba-1 selective scan in plain torch: decays and inflows of a chunk at once, the recurrence in place.

The gradient is written by hand, since autograd through the slices of a loop costs O(L²). Only the state before each
chunk is kept; the backward pass redoes a chunk before it needs it. Layout inside a chunk: `Q B E N`, so that
the state of one token is contiguous.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from emma_viz.kernels.reference import accumulation_dtype, step_sizes

CHUNK = 16
"""Tokens a chunk: enough to spread the cost of a torch call, few enough for `Q B E N` to stay in cache."""


def selective_scan(
    u: Float[Tensor, "B L E"],
    delta: Float[Tensor, "B L E"],
    A: Float[Tensor, "E N"],
    B: Float[Tensor, "B L N"],
    C: Float[Tensor, "B L N"],
    D: Float[Tensor, " E"] | None,
    z: Float[Tensor, "B L E"] | None,
    delta_bias: Float[Tensor, " E"] | None,
    delta_softplus: bool,
    initial_state: Float[Tensor, "B E N"] | None,
) -> tuple[Float[Tensor, "B L E"], Float[Tensor, "B E N"]]:
    """See `emma_viz.kernels.reference.selective_scan`."""
    dtype = accumulation_dtype(u.dtype)
    x = u.to(dtype)
    step = step_sizes(delta, delta_bias, delta_softplus, dtype)
    if initial_state is None:
        initial_state = x.new_zeros(u.shape[0], u.shape[2], A.shape[1])
    y, final = _Recurrence.apply(
        step, step * x, A.to(dtype), B.to(dtype), C.to(dtype), initial_state.to(dtype)
    )
    if D is not None:
        y = torch.addcmul(y, x, D.to(dtype))
    if z is not None:
        y = y * functional.silu(z.to(dtype))
    return y.to(u.dtype), final


class _Recurrence(torch.autograd.Function):
    """h_t = exp(Δ_t A) h_{t-1} + B_t v_t and y_t = C_t·h_t, for inflows v = Δ u."""

    @staticmethod
    def forward(ctx, step, inflow, A, B, C, initial):
        length = step.shape[1]
        y = torch.empty_like(inflow)
        state, kept = initial, []
        for start in range(0, length, CHUNK):
            part = slice(start, min(start + CHUNK, length))
            kept.append(state)
            _, states = _chunk_states(step[:, part], inflow[:, part], A, B[:, part], state)
            y[:, part] = torch.einsum("qben,bqn->bqe", states, C[:, part])
            # A copy: the chunk's states must not outlive it.
            state = states[-1].clone()
        ctx.save_for_backward(step, inflow, A, B, C, *kept)
        return y, state

    @staticmethod
    @once_differentiable
    def backward(ctx, gy, g_final):
        step, inflow, A, B, C, *kept = ctx.saved_tensors
        g_step, g_inflow, gA = torch.empty_like(step), torch.empty_like(inflow), torch.zeros_like(A)
        gB, gC = torch.empty_like(B), torch.empty_like(C)
        carried = g_final
        for index in range(len(kept) - 1, -1, -1):
            part = slice(index * CHUNK, min((index + 1) * CHUNK, step.shape[1]))
            decay, states = _chunk_states(step[:, part], inflow[:, part], A, B[:, part], kept[index])
            g = torch.einsum("bqe,bqn->qben", gy[:, part], C[:, part])
            g[-1].add_(carried)
            for t in range(g.shape[0] - 1, 0, -1):
                g[t - 1].addcmul_(decay[t], g[t])
            gC[:, part] = torch.einsum("bqe,qben->bqn", gy[:, part], states)
            gB[:, part] = torch.einsum("bqe,qben->bqn", inflow[:, part], g)
            g_inflow[:, part] = torch.einsum("qben,bqn->bqe", g, B[:, part])
            decay.mul_(g)
            carried = decay[0].clone()
            # From here on: the gradient of the exponent Δ A.
            decay[1:].mul_(states[:-1])
            decay[0].mul_(kept[index])
            g_step[:, part] = torch.einsum("qben,en->bqe", decay, A)
            gA += torch.einsum("qben,bqe->en", decay, step[:, part])
        return g_step, g_inflow, gA, gB, gC, carried


def _chunk_states(step, inflow, A, B, state):
    """Decays and states, both `Q B E N`, of the tokens of one chunk."""
    decay = torch.einsum("bqe,en->qben", step, A).exp_()
    states = torch.einsum("bqe,bqn->qben", inflow, B)
    states[0].addcmul_(decay[0], state)
    for t in range(1, states.shape[0]):
        states[t].addcmul_(decay[t], states[t - 1])
    return decay, states
