"""Mamba-2 SSD in Triton: a program walks the chunks of one head with a block of its state in registers.

The same products as in `emma_viz.kernels.torch.ssd`, gradient included; sums over heads and blocks are written apart
and added by torch: no result depends on an order of atomics.
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

_SMALLEST = 16
"""Least size of an axis of a matrix product in Triton."""

_FEW_STATES = 64
"""Up to so many states a program takes 32 tokens and 32 rows of the state `P N` at once, beyond it 16 of each. At 128
states 32 of each would take 140 816 bytes of shared memory in the gradient (compiled for compute capability 8.0, not
run), which cards with 99 kB for a program lack."""

_LOG2E = math.log2(math.e)


def ssd(
    x: Float[Tensor, "B L H P"],
    dt: Float[Tensor, "B L H"],
    A: Float[Tensor, " H"],
    B: Float[Tensor, "B L G N"],
    C: Float[Tensor, "B L G N"],
    D: Float[Tensor, " H"] | None,
    dt_bias: Float[Tensor, " H"] | None,
    dt_softplus: bool,
    initial_state: Float[Tensor, "B H P N"] | None,
) -> tuple[Float[Tensor, "B L H P"], Float[Tensor, "B H P N"]]:
    """See `emma_viz.kernels.reference.ssd`."""
    u = x.float()
    step = step_sizes(dt, dt_bias, dt_softplus, torch.float32)
    if initial_state is None:
        initial_state = u.new_zeros(u.shape[0], u.shape[2], u.shape[3], B.shape[3])
    # tf32 keeps more digits than the half formats have; fp32 inputs keep all of theirs.
    precision = "ieee" if x.dtype == torch.float32 else "tf32"
    y, final = _ChunkedSSD.apply(
        u * step[..., None],
        step * (A.float() * _LOG2E),
        B.float(),
        C.float(),
        initial_state.float(),
        precision,
    )
    if D is not None:
        y = torch.addcmul(y, u, D.float()[:, None])
    return y.to(x.dtype), final


class _ChunkedSSD(torch.autograd.Function):
    """h_t = 2**a_t h_{t-1} + v_t ⊗ B_t and y_t = h_t C_t, for inflows v = Δ x and log decays a = Δ A to the base 2."""

    @staticmethod
    def forward(ctx, v, log_decay, B, C, initial, precision):
        v, B, C, initial = (t.contiguous() for t in (v, B, C, initial))
        batch, length, heads, size = v.shape
        states = B.shape[3]
        keep = any(ctx.needs_input_grad)
        tiles = _tiles(states)
        sums = _running_sums(log_decay, tiles["CHUNK"])
        y, final = torch.empty_like(v), torch.empty_like(initial)
        kept = v.new_empty(batch, sums.shape[1] if keep else 0, heads, size, states)
        with torch.cuda.device_of(v):
            _forward[(triton.cdiv(size, tiles["ROWS"]), heads, batch)](
                v, sums, B, C, initial, y, final, kept, length, heads, B.shape[2], size, states,
                KEEP=keep, PRECISION=precision, **tiles,
            )  # fmt: skip
        ctx.save_for_backward(v, sums, B, C, kept)
        ctx.precision = precision
        return y, final

    @staticmethod
    @once_differentiable
    def backward(ctx, gy, g_final):
        v, sums, B, C, kept = ctx.saved_tensors
        gy, g_final = gy.contiguous(), g_final.contiguous()
        batch, length, heads, size = v.shape
        groups, states = B.shape[2:]
        tiles = _tiles(states)
        blocks = triton.cdiv(size, tiles["ROWS"])
        gv, g_initial = torch.empty_like(v), torch.empty_like(g_final)
        g_sums = torch.empty(blocks, *sums.shape, dtype=torch.float64, device=v.device)
        gB, gC = (v.new_empty(batch, length, groups, heads // groups, blocks, states) for _ in range(2))
        with torch.cuda.device_of(v):
            _backward[(blocks, heads, batch)](
                v, sums, B, C, kept, gy, g_final, gv, g_sums, gB, gC, g_initial,
                length, heads, groups, size, states, PRECISION=ctx.precision, **tiles,
            )  # fmt: skip
        # The gradient of a running sum is the running sum from the other end.
        decay = g_sums.sum(dim=0).flip(2).cumsum(dim=2).flip(2) * math.log(2)
        g_decay = decay.flatten(1, 2)[:, :length].to(v.dtype)
        return gv, g_decay, gB.sum(dim=(3, 4)), gC.sum(dim=(3, 4)), g_initial, None


def _tiles(states: int) -> dict[str, int]:
    """Tokens a chunk, rows of the state a program, and states, each a power of two."""
    side = 32 if states <= _FEW_STATES else 16
    return {"CHUNK": side, "ROWS": side, "STATES": max(_SMALLEST, triton.next_power_of_2(states))}


def _running_sums(log_decay: Tensor, chunk: int) -> Tensor:
    """Running sums inside each chunk, `B chunks Q H`, in float64: differences of long sums are what counts.

    Padding at the end adds nothing, so that a last, short chunk ends in its own sum.
    """
    padded = functional.pad(log_decay.double(), (0, 0, 0, -log_decay.shape[1] % chunk))
    return padded.unflatten(1, (-1, chunk)).cumsum(dim=2).contiguous()


@triton.jit
@no_type_check
def _mixing(sums, write, read, CHUNK: tl.constexpr, PRECISION: tl.constexpr):
    """What each token of a chunk takes from each before it, and the decay part of it."""
    tokens = tl.arange(0, CHUNK)
    before = tokens[:, None] >= tokens[None, :]
    difference = tl.where(before, sums[:, None] - sums[None, :], 0.0)
    decay = tl.where(before, tl.exp2(difference.to(tl.float32)), 0.0)
    return decay * tl.dot(read, tl.trans(write), input_precision=PRECISION), decay


@triton.jit
@no_type_check
def _forward(
    v, sums, B, C, initial, y, final, kept, length, heads, groups, size, states,
    KEEP: tl.constexpr, PRECISION: tl.constexpr, CHUNK: tl.constexpr, ROWS: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    head = tl.program_id(1)
    sample = tl.program_id(2).to(tl.int64)
    group = head // (heads // groups)
    index, tokens = tl.arange(0, STATES), tl.arange(0, CHUNK)
    inside, real = rows < size, index < states
    both = inside[:, None] & real[None, :]
    matrix = rows[:, None] * states + index[None, :]
    h = tl.load(initial + (sample * heads + head) * size * states + matrix, mask=both, other=0.0)
    chunks = tl.cdiv(length, CHUNK)
    for chunk in range(chunks):
        if KEEP:
            place = ((sample * chunks + chunk) * heads + head) * size * states
            tl.store(kept + place + matrix, h, mask=both)
        t = chunk * CHUNK + tokens
        held = t < length
        line = sample * length + t
        value = line[:, None] * heads * size + head * size + rows[None, :]
        vector = (line[:, None] * groups + group) * states + index[None, :]
        inflow = tl.load(v + value, mask=held[:, None] & inside[None, :], other=0.0)
        write = tl.load(B + vector, mask=held[:, None] & real[None, :], other=0.0)
        read = tl.load(C + vector, mask=held[:, None] & real[None, :], other=0.0)
        place = ((sample * chunks + chunk) * CHUNK) * heads + head
        cs = tl.load(sums + place + tokens * heads)
        end = tl.load(sums + place + (CHUNK - 1) * heads)
        mixing, _ = _mixing(cs, write, read, CHUNK, PRECISION)
        out = tl.dot(read, tl.trans(h), input_precision=PRECISION) * tl.exp2(cs.to(tl.float32))[:, None]
        out += tl.dot(mixing, inflow, input_precision=PRECISION)
        tl.store(y + value, out, mask=held[:, None] & inside[None, :])
        left = inflow * tl.exp2((end - cs).to(tl.float32))[:, None]
        h = h * tl.exp2(end.to(tl.float32)) + tl.dot(tl.trans(left), write, input_precision=PRECISION)
    tl.store(final + (sample * heads + head) * size * states + matrix, h, mask=both)


@triton.jit
@no_type_check
def _backward(
    v, sums, B, C, kept, gy, g_final, gv, g_sums, gB, gC, g_initial, length, heads, groups, size, states,
    PRECISION: tl.constexpr, CHUNK: tl.constexpr, ROWS: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0)
    rows = block * ROWS + tl.arange(0, ROWS)
    head = tl.program_id(1)
    sample = tl.program_id(2).to(tl.int64)
    group = head // (heads // groups)
    index, tokens = tl.arange(0, STATES), tl.arange(0, CHUNK)
    inside, real = rows < size, index < states
    both = inside[:, None] & real[None, :]
    matrix = rows[:, None] * states + index[None, :]
    g = tl.load(g_final + (sample * heads + head) * size * states + matrix, mask=both, other=0.0)
    chunks = tl.cdiv(length, CHUNK)
    for back in range(chunks):
        chunk = chunks - 1 - back
        place = ((sample * chunks + chunk) * heads + head) * size * states
        h = tl.load(kept + place + matrix, mask=both, other=0.0)
        t = chunk * CHUNK + tokens
        held = t < length
        line = sample * length + t
        value = line[:, None] * heads * size + head * size + rows[None, :]
        vector = (line[:, None] * groups + group) * states + index[None, :]
        wide, tall = held[:, None] & inside[None, :], held[:, None] & real[None, :]
        inflow = tl.load(v + value, mask=wide, other=0.0)
        gout = tl.load(gy + value, mask=wide, other=0.0)
        write = tl.load(B + vector, mask=tall, other=0.0)
        read = tl.load(C + vector, mask=tall, other=0.0)
        place = ((sample * chunks + chunk) * CHUNK) * heads + head
        cs = tl.load(sums + place + tokens * heads)
        end = tl.load(sums + place + (CHUNK - 1) * heads)
        # Inside the chunk.
        mixing, decay = _mixing(cs, write, read, CHUNK, PRECISION)
        g_mixing = tl.dot(gout, tl.trans(inflow), input_precision=PRECISION)
        g_inflow = tl.dot(tl.trans(mixing), gout, input_precision=PRECISION)
        exponent = (mixing * g_mixing).to(tl.float64)
        g_cs = tl.sum(exponent, axis=1) - tl.sum(exponent, axis=0)
        products = g_mixing * decay
        g_read = tl.dot(products, write, input_precision=PRECISION)
        g_write = tl.dot(tl.trans(products), read, input_precision=PRECISION)
        # What the outputs saw of the state before the chunk.
        seen = gout * tl.exp2(cs.to(tl.float32))[:, None]
        g_read += tl.dot(seen, h, input_precision=PRECISION)
        g_cs += tl.sum(seen * tl.dot(read, tl.trans(h), input_precision=PRECISION), axis=1).to(tl.float64)
        # What the chunk left in the state after it.
        left = tl.exp2((end - cs).to(tl.float32))[:, None]
        returned = tl.dot(write, tl.trans(g), input_precision=PRECISION) * left
        g_inflow += returned
        g_write += tl.dot(inflow * left, g, input_precision=PRECISION)
        leaving = tl.sum(returned * inflow, axis=1).to(tl.float64)
        passed = g * tl.exp2(end.to(tl.float32))
        ending = tl.sum(leaving, axis=0) + tl.sum(tl.sum(passed * h, axis=1), axis=0).to(tl.float64)
        g_cs += tl.where(tokens == CHUNK - 1, ending, 0.0) - leaving
        g = passed + tl.dot(tl.trans(seen), read, input_precision=PRECISION)
        tl.store(gv + value, g_inflow, mask=wide)
        tl.store(g_sums + block * tl.num_programs(2) * chunks * CHUNK * heads + place + tokens * heads, g_cs)
        partial = ((line[:, None] * heads + head) * tl.num_programs(0) + block) * states + index[None, :]
        tl.store(gB + partial, g_write, mask=tall)
        tl.store(gC + partial, g_read, mask=tall)
    tl.store(g_initial + (sample * heads + head) * size * states + matrix, g, mask=both)
