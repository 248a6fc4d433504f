"""One token at a time in Triton: a kernel reads a block of the state once, and writes it once.

No gradient, so that skip and gate are done in the kernel, too; step sizes are torch's, with its softplus.
"""

import math
from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from emma_viz.kernels.reference import step_sizes

_BLOCK = 32
"""Channels of a Mamba-1, or rows of a head's state, that a program takes."""

_LOG2E = math.log2(math.e)


def selective_scan_step(
    state: Float[Tensor, "B E N"],
    u: Float[Tensor, "B E"],
    delta: Float[Tensor, "B E"],
    A: Float[Tensor, "E N"],
    B: Float[Tensor, "B N"],
    C: Float[Tensor, "B N"],
    D: Float[Tensor, " E"] | None,
    z: Float[Tensor, "B E"] | None,
    delta_bias: Float[Tensor, " E"] | None,
    delta_softplus: bool,
) -> tuple[Float[Tensor, "B E"], Float[Tensor, "B E N"]]:
    """See `emma_viz.kernels.reference.selective_scan_step`. No gradient."""
    batch, inner, states = state.shape
    y = torch.empty(u.shape, dtype=u.dtype, device=u.device)
    new = torch.empty(state.shape, dtype=torch.float32, device=u.device)
    step = step_sizes(delta, delta_bias, delta_softplus, torch.float32)
    given = (t.contiguous() for t in (state, u, step, A, B, C))
    # What is absent is not read: any tensor stands in its place.
    skip, gate = (step if each is None else each.contiguous() for each in (D, z))
    with torch.cuda.device_of(u):
        _scan_step[(triton.cdiv(inner, _BLOCK), batch)](
            *given, skip, gate, y, new, inner, states, LOG2E=_LOG2E, SKIP=D is not None, GATE=z is not None,
            CHANNELS=_BLOCK, STATES=triton.next_power_of_2(states), num_warps=1,
        )  # fmt: skip
    return y, new


def ssd_step(
    state: Float[Tensor, "B H P N"],
    x: Float[Tensor, "B H P"],
    dt: Float[Tensor, "B H"],
    A: Float[Tensor, " H"],
    B: Float[Tensor, "B G N"],
    C: Float[Tensor, "B G N"],
    D: Float[Tensor, " H"] | None,
    dt_bias: Float[Tensor, " H"] | None,
    dt_softplus: bool,
) -> tuple[Float[Tensor, "B H P"], Float[Tensor, "B H P N"]]:
    """See `emma_viz.kernels.reference.ssd_step`. No gradient."""
    batch, heads, size, states = state.shape
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    new = torch.empty(state.shape, dtype=torch.float32, device=x.device)
    step = step_sizes(dt, dt_bias, dt_softplus, torch.float32)
    given = (t.contiguous() for t in (state, x, step, A, B, C))
    skip = step if D is None else D.contiguous()
    with torch.cuda.device_of(x):
        _ssd_step[(triton.cdiv(size, _BLOCK), heads, batch)](
            *given, skip, y, new, heads, B.shape[1], size, states, LOG2E=_LOG2E, SKIP=D is not None,
            ROWS=_BLOCK, STATES=triton.next_power_of_2(states),
        )  # fmt: skip
    return y, new


@triton.jit
@no_type_check
def _scan_step(
    state, u, step, A, B, C, D, z, y, new, inner, states,
    LOG2E: tl.constexpr, SKIP: tl.constexpr, GATE: tl.constexpr, CHANNELS: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    channels = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    index = tl.arange(0, STATES)
    sample = tl.program_id(1).to(tl.int64)
    inside, real = channels < inner, index < states
    both = inside[:, None] & real[None, :]
    matrix = channels[:, None] * states + index[None, :]
    row = sample * inner + channels
    x = tl.load(u + row, mask=inside, other=0.0).to(tl.float32)
    delta = tl.load(step + row, mask=inside, other=0.0)
    rates = tl.load(A + matrix, mask=both, other=0.0).to(tl.float32) * LOG2E
    write = tl.load(B + sample * states + index, mask=real, other=0.0).to(tl.float32)
    read = tl.load(C + sample * states + index, mask=real, other=0.0).to(tl.float32)
    h = tl.load(state + sample * inner * states + matrix, mask=both, other=0.0).to(tl.float32)
    h = tl.exp2(delta[:, None] * rates) * h + (delta * x)[:, None] * write[None, :]
    tl.store(new + sample * inner * states + matrix, h, mask=both)
    out = tl.sum(h * read[None, :], axis=1)
    if SKIP:
        out += tl.load(D + channels, mask=inside, other=0.0).to(tl.float32) * x
    if GATE:
        gate = tl.load(z + row, mask=inside, other=0.0).to(tl.float32)
        out *= gate * tl.sigmoid(gate)
    tl.store(y + row, out, mask=inside)


@triton.jit
@no_type_check
def _ssd_step(
    state, x, step, A, B, C, D, y, new, heads, groups, size, states,
    LOG2E: tl.constexpr, SKIP: tl.constexpr, ROWS: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    index = tl.arange(0, STATES)
    head = tl.program_id(1)
    sample = tl.program_id(2).to(tl.int64)
    inside, real = rows < size, index < states
    both = inside[:, None] & real[None, :]
    line = sample * heads + head
    matrix = line * size * states + rows[:, None] * states + index[None, :]
    vector = (sample * groups + head // (heads // groups)) * states + index
    u = tl.load(x + line * size + rows, mask=inside, other=0.0).to(tl.float32)
    delta = tl.load(step + line)
    decay = tl.exp2(delta * (tl.load(A + head).to(tl.float32) * LOG2E))
    write = tl.load(B + vector, mask=real, other=0.0).to(tl.float32)
    read = tl.load(C + vector, mask=real, other=0.0).to(tl.float32)
    h = tl.load(state + matrix, mask=both, other=0.0).to(tl.float32)
    h = decay * h + (delta * u)[:, None] * write[None, :]
    tl.store(new + matrix, h, mask=both)
    out = tl.sum(h * read[None, :], axis=1)
    if SKIP:
        out += tl.load(D + head).to(tl.float32) * u
    tl.store(y + line * size + rows, out, mask=inside)
