"""Mamba-1 selective scan in Triton: a program walks the tokens with the states of a block of channels in registers.

The state before each chunk is kept; the backward pass redoes a chunk into a scratch of that length, then walks it from
its end. Sums over channels are written by block and added by torch: no result depends on an order of atomics.
"""

import math
from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from emma_viz.kernels.reference import step_sizes

_CHANNELS = 32
"""Channels a program: few, so that one image's scan already fills a card."""

_CHUNK = 32
"""Tokens between two states that are kept."""

_LOG2E = math.log2(math.e)


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
    x = u.float()
    step = step_sizes(delta, delta_bias, delta_softplus, torch.float32)
    if initial_state is None:
        initial_state = x.new_zeros(u.shape[0], u.shape[2], A.shape[1])
    y, final = _Recurrence.apply(
        step, step * x, A.float() * _LOG2E, B.float(), C.float(), initial_state.float()
    )
    if D is not None:
        y = torch.addcmul(y, x, D.float())
    if z is not None:
        y = y * functional.silu(z.float())
    return y.to(u.dtype), final


class _Recurrence(torch.autograd.Function):
    """h_t = 2**(Δ_t A) h_{t-1} + B_t v_t and y_t = C_t·h_t, for inflows v = Δ u and A to the base 2."""

    @staticmethod
    def forward(ctx, step, inflow, A, B, C, initial):
        step, inflow, A, B, C, initial = (t.contiguous() for t in (step, inflow, A, B, C, initial))
        batch, length, inner = step.shape
        states = A.shape[1]
        keep = any(ctx.needs_input_grad)
        chunks = triton.cdiv(length, _CHUNK)
        y, final = torch.empty_like(step), torch.empty_like(initial)
        kept = step.new_empty(batch, chunks if keep else 0, inner, states)
        with torch.cuda.device_of(step):
            _forward[(triton.cdiv(inner, _CHANNELS), batch)](
                step, inflow, A, B, C, initial, y, final, kept, length, inner, states,
                KEEP=keep, CHUNK=_CHUNK, CHANNELS=_CHANNELS, STATES=triton.next_power_of_2(states), num_warps=1,
            )  # fmt: skip
        ctx.save_for_backward(step, inflow, A, B, C, kept)
        return y, final

    @staticmethod
    @once_differentiable
    def backward(ctx, gy, g_final):
        step, inflow, A, B, C, kept = ctx.saved_tensors
        gy, carried = gy.contiguous(), g_final.contiguous()
        batch, length, inner = step.shape
        states = A.shape[1]
        blocks = triton.cdiv(inner, _CHANNELS)
        g_step, g_inflow, g_initial = (
            torch.empty_like(step),
            torch.empty_like(step),
            torch.empty_like(carried),
        )
        gA = step.new_empty(batch, inner, states)
        gB, gC = (step.new_empty(blocks, batch, length, states) for _ in range(2))
        scratch = step.new_empty(batch, _CHUNK, inner, states)
        with torch.cuda.device_of(step):
            _backward[(blocks, batch)](
                step, inflow, A, B, C, kept, gy, carried, g_step, g_inflow, gA, gB, gC, g_initial, scratch,
                length, inner, states,
                CHUNK=_CHUNK, CHANNELS=_CHANNELS, STATES=triton.next_power_of_2(states), num_warps=1,
            )  # fmt: skip
        # The kernel's exponents are to the base 2: A came in times log2(e), and d 2**a = ln(2) 2**a da.
        ln2 = math.log(2)
        return g_step * ln2, g_inflow, gA.sum(dim=0) * ln2, gB.sum(dim=0), gC.sum(dim=0), g_initial


@triton.jit
@no_type_check
def _forward(
    step, inflow, A, B, C, initial, y, final, kept, length, inner, states,
    KEEP: tl.constexpr, CHUNK: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    channels = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    index = tl.arange(0, STATES)
    sample = tl.program_id(1).to(tl.int64)
    inside, real = channels < inner, index < states
    both = inside[:, None] & real[None, :]
    matrix = channels[:, None] * states + index[None, :]
    rates = tl.load(A + matrix, mask=both, other=0.0)
    h = tl.load(initial + sample * inner * states + matrix, mask=both, other=0.0)
    chunks = tl.cdiv(length, CHUNK)
    for t in range(length):
        if KEEP:  # noqa: SIM102 (decided at compile time)
            if t % CHUNK == 0:
                tl.store(kept + (sample * chunks + t // CHUNK) * inner * states + matrix, h, mask=both)
        row = sample * length + t
        delta = tl.load(step + row * inner + channels, mask=inside, other=0.0)
        v = tl.load(inflow + row * inner + channels, mask=inside, other=0.0)
        write = tl.load(B + row * states + index, mask=real, other=0.0)
        read = tl.load(C + row * states + index, mask=real, other=0.0)
        h = tl.exp2(delta[:, None] * rates) * h + v[:, None] * write[None, :]
        tl.store(y + row * inner + channels, tl.sum(h * read[None, :], axis=1), mask=inside)
    tl.store(final + sample * inner * states + matrix, h, mask=both)


@triton.jit
@no_type_check
def _backward(
    step, inflow, A, B, C, kept, gy, carried, g_step, g_inflow, gA, gB, gC, g_initial, scratch,
    length, inner, states, CHUNK: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0).to(tl.int64)
    channels = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    index = tl.arange(0, STATES)
    sample = tl.program_id(1).to(tl.int64)
    inside, real = channels < inner, index < states
    both = inside[:, None] & real[None, :]
    matrix = channels[:, None] * states + index[None, :]
    rates = tl.load(A + matrix, mask=both, other=0.0)
    g = tl.load(carried + sample * inner * states + matrix, mask=both, other=0.0)
    g_rates = tl.zeros((CHANNELS, STATES), tl.float32)
    chunks = tl.cdiv(length, CHUNK)
    for back in range(chunks):
        chunk = chunks - 1 - back
        start = chunk * CHUNK
        count = tl.minimum(length - start, CHUNK)
        h = tl.load(kept + (sample * chunks + chunk) * inner * states + matrix, mask=both, other=0.0)
        for i in range(count):
            # The state before each token; the same thread reads it again below.
            tl.store(scratch + (sample * CHUNK + i) * inner * states + matrix, h, mask=both)
            row = sample * length + start + i
            delta = tl.load(step + row * inner + channels, mask=inside, other=0.0)
            v = tl.load(inflow + row * inner + channels, mask=inside, other=0.0)
            write = tl.load(B + row * states + index, mask=real, other=0.0)
            h = tl.exp2(delta[:, None] * rates) * h + v[:, None] * write[None, :]
        tl.debug_barrier()
        for j in range(count):
            i = count - 1 - j
            row = sample * length + start + i
            delta = tl.load(step + row * inner + channels, mask=inside, other=0.0)
            v = tl.load(inflow + row * inner + channels, mask=inside, other=0.0)
            gout = tl.load(gy + row * inner + channels, mask=inside, other=0.0)
            write = tl.load(B + row * states + index, mask=real, other=0.0)
            read = tl.load(C + row * states + index, mask=real, other=0.0)
            before = tl.load(scratch + (sample * CHUNK + i) * inner * states + matrix, mask=both, other=0.0)
            decay = tl.exp2(delta[:, None] * rates)
            h = decay * before + v[:, None] * write[None, :]
            g += gout[:, None] * read[None, :]
            partial = ((block * tl.num_programs(1) + sample) * length + start + i) * states + index
            tl.store(gC + partial, tl.sum(h * gout[:, None], axis=0), mask=real)
            tl.store(gB + partial, tl.sum(g * v[:, None], axis=0), mask=real)
            tl.store(g_inflow + row * inner + channels, tl.sum(g * write[None, :], axis=1), mask=inside)
            g = g * decay
            exponent = g * before
            tl.store(g_step + row * inner + channels, tl.sum(exponent * rates, axis=1), mask=inside)
            g_rates += exponent * delta[:, None]
        tl.debug_barrier()
    tl.store(g_initial + sample * inner * states + matrix, g, mask=both)
    tl.store(gA + sample * inner * states + matrix, g_rates, mask=both)
