"""Mamba-1 selective scan in plain torch: decays and inflows of a chunk at once, the recurrence in place.

The gradient is written by hand, since autograd through the slices of a loop costs O(L²). Only the state before each
chunk is kept; the backward pass redoes a chunk before it needs it. States are `B N E` and chunks `B Q N E`: the long
axis of the channels is last, as in the inputs, and sums over the states are batched matrix products.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from emma_viz.kernels.reference import accumulation_dtype, step_sizes

SHORTEST_CHUNK, LONGEST_CHUNK = 16, 64
"""Tokens a chunk: enough to spread the cost of a torch call."""

CHUNK_SIZE = 2**18
"""Numbers in a chunk `B Q N E` that still fit a second-level cache; longer chunks are taken up to here."""

_LOG2E = math.log2(math.e)
"""torch vectorises exp2 on the CPU; its exp is four times as slow."""


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
        state = x.new_zeros(u.shape[0], A.shape[1], u.shape[2])
    else:
        state = initial_state.to(dtype).transpose(1, 2)
    y, final = _Recurrence.apply(
        step, step * x, A.to(dtype).T.contiguous(), B.to(dtype), C.to(dtype), state.contiguous()
    )  # fmt: skip
    if D is not None:
        y = torch.addcmul(y, x, D.to(dtype))
    if z is not None:
        y = y * functional.silu(z.to(dtype))
    return y.to(u.dtype), final.transpose(1, 2).contiguous()


class _Recurrence(torch.autograd.Function):
    """h_t = exp(Δ_t A) h_{t-1} + B_t v_t and y_t = C_t·h_t, for inflows v = Δ u `B L E`; A is `N E`."""

    @staticmethod
    def forward(ctx, step, inflow, A, B, C, initial):
        y = torch.empty_like(inflow)
        chunk = _Chunk(step, inflow, A, B)
        state, kept = initial, []
        for part in chunk.parts:
            kept.append(state)
            _, states = chunk.run(part, state)
            y[:, part] = torch.matmul(C[:, part, None], states)[:, :, 0]
            # A copy: the buffer is used again.
            state = states[:, -1].clone()
        ctx.save_for_backward(step, inflow, A, B, C, *kept)
        return y, state

    @staticmethod
    @once_differentiable
    def backward(ctx, gy, g_final):
        step, inflow, A, B, C, *kept = ctx.saved_tensors
        g_step, g_inflow, gA = torch.empty_like(step), torch.empty_like(inflow), torch.zeros_like(A)
        gB, gC = torch.empty_like(B), torch.empty_like(C)
        chunk = _Chunk(step, inflow, A, B)
        buffer = torch.empty_like(chunk.states)
        carried = g_final
        for part, before in reversed(list(zip(chunk.parts, kept, strict=True))):
            decay, states = chunk.run(part, before)
            g = torch.mul(C[:, part, :, None], gy[:, part, None], out=buffer[:, : decay.shape[1]])
            g[:, -1].add_(carried)
            by_token, decays = g.unbind(1), decay.unbind(1)
            for t in range(len(decays) - 1, 0, -1):
                by_token[t - 1].addcmul_(decays[t], by_token[t])
            gC[:, part] = torch.linalg.vecdot(states, gy[:, part, None])
            gB[:, part] = torch.linalg.vecdot(g, inflow[:, part, None])
            g_inflow[:, part] = torch.matmul(B[:, part, None], g)[:, :, 0]
            decay.mul_(g)
            carried = decay[:, 0].clone()
            # From here on: the gradient of the exponent Δ A.
            decay[:, 1:].mul_(states[:, :-1])
            decay[:, 0].mul_(before)
            g_step[:, part] = torch.mul(decay, A, out=g).sum(dim=2)
            gA += torch.mul(decay, step[:, part, None], out=g).sum(dim=(0, 1))
        return g_step, g_inflow, gA, gB, gC, carried


class _Chunk:
    """Buffers `B Q N E` for the decays and states of one chunk at a time."""

    def __init__(self, step: Tensor, inflow: Tensor, A: Tensor, B: Tensor):
        self.step, self.inflow, self.B = step, inflow, B
        self.exponents = A * _LOG2E
        batch, length, inner = step.shape
        tokens = min(LONGEST_CHUNK, max(SHORTEST_CHUNK, CHUNK_SIZE // max(1, batch * A.numel())))
        self.parts = [slice(start, min(start + tokens, length)) for start in range(0, length, tokens)]
        self.decay = step.new_empty(batch, min(tokens, length), A.shape[0], inner)
        self.states = torch.empty_like(self.decay)

    def run(self, part: slice, state: Tensor) -> tuple[Tensor, Tensor]:
        """Decays and states of the tokens of a chunk, from the state before it; valid until the next call."""
        count = part.stop - part.start
        decay, states = self.decay[:, :count], self.states[:, :count]
        torch.mul(self.step[:, part, None], self.exponents, out=decay).exp2_()
        torch.mul(self.inflow[:, part, None], self.B[:, part, :, None], out=states)
        for a, h in zip(decay.unbind(1), states.unbind(1), strict=True):
            state = h.addcmul_(a, state)
        return decay, states
