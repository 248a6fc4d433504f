"""Numba kernels of the Mamba-2 SSD, forward: blocks of four tokens, tiles of LANES channels.

With h the state before a block, a_t the decays, v_t = Δ_t x_t, and E_t = a_1…a_t, token t of the block has

    y_t = E_t C_t·h + Σ_{j≤t} (C_t·B_j) a_{j+1}…a_t v_j,

and the state after the block is E_4 h + Σ_j a_{j+1}…a_4 v_j B_j: the state is read and written once in four tokens.
B and C of a block are packed side by side for that loop, and the products C_t·B_j are formed once for all channels.
A channel is one of the H·P inner channels; channels of one group share B and C.
"""

from typing import NamedTuple, no_type_check

import numpy as np

from emma_viz.kernels.numba.bf16 import held, value
from emma_viz.kernels.numba.lanes import LANES, carray, stack
from emma_viz.kernels.numba.math import (
    LOG2E,
    ZERO,
    exp2,
    inlined,
    parallel_kernel,
    share_of,
    softplus,
)

STEPS = 4
"""Tokens of a block. The kernels are written out for this number."""

_TILE = STEPS * LANES


class SsdTokens(NamedTuple):
    """What the kernels read of a batch. Arrays are float32, but x may be bf16; `prepare` fills delta to products."""

    x: np.ndarray
    """Flat: B·L rows of E = H·P channels."""
    distance: int
    """Between the rows of x."""
    delta: np.ndarray
    """Step sizes (B, blocks · STEPS, H)."""
    decay: np.ndarray
    """exp(Δ A), shaped as delta."""
    packed: np.ndarray
    """(B, G, blocks, N, 2 · STEPS): B of the tokens of a block, then C."""
    products: np.ndarray
    """(B, G, blocks, STEPS, STEPS): C_t·B_j at [t, j]."""
    B: np.ndarray
    """(B, L, G, N)."""
    C: np.ndarray
    """(B, L, G, N)."""


class SsdShare(NamedTuple):
    """What a task works on."""

    sample: int
    group: int
    start: int
    """First channel."""
    end: int
    """After the last channel."""
    length: int
    """Tokens of the sample."""


@parallel_kernel
@no_type_check
def prepare(worker, workers, dt, bias, A, use_softplus, B, C, delta, decay, packed, products):
    """Fill delta, decay, packed and products of `SsdTokens`; whole blocks, the last with tokens that change nothing.

    Args:
        dt: (B, L, H). bias, A: (H,). B, C: (B, L, G, N).
    """
    batch, length, heads = dt.shape
    groups, blocks, states = packed.shape[1], packed.shape[2], packed.shape[3]
    for task in share_of(worker, workers, batch * blocks):
        b = task // blocks
        block = task % blocks
        for i in range(STEPS):
            t = block * STEPS + i
            for h in range(heads):
                step = ZERO
                if t < length:
                    step = dt[b, t, h] + bias[h]
                    if use_softplus:
                        step = softplus(step)
                delta[b, t, h] = step
                decay[b, t, h] = exp2(step * (A[h] * LOG2E))
        for g in range(groups):
            both = packed[b, g, block]
            for i in range(STEPS):
                t = block * STEPS + i
                for n in range(states):
                    both[n, i] = B[b, t, g, n] if t < length else ZERO
                    both[n, STEPS + i] = C[b, t, g, n] if t < length else ZERO
            for i in range(STEPS):
                for j in range(STEPS):
                    total = ZERO
                    for n in range(states):
                        total += both[n, STEPS + i] * both[n, j]
                    products[b, g, block, i, j] = total


@inlined
@no_type_check
def clear(values):
    """Fill a tile (STEPS, LANES) with zeros."""
    for i in range(STEPS):
        for c in range(LANES):
            values[i, c] = ZERO


@inlined
@no_type_check
def load_rows(flat, distance, row, count, c0, width, out):
    """Copy `count` rows of `width` channels into out (STEPS, LANES) and fill the rest with zeros."""
    if count == STEPS and width == LANES:
        # Unsigned: numba need not look out for indices that count from the end.
        start, step = np.uint64(row * distance + c0), np.uint64(distance)
        for i in range(STEPS):
            for c in range(np.uint64(LANES)):
                out[i, c] = value(flat[start + c])
            start += step
    else:
        clear(out)
        for i in range(count):
            for c in range(width):
                out[i, c] = value(flat[(row + i) * distance + c0 + c])


@inlined
@no_type_check
def load_heads(values, b, first, head, out):
    """Copy a value a head to the channels of the heads, for the tokens of a block."""
    if head[0] == head[LANES - 1]:
        for i in range(STEPS):
            value = values[b, first + i, head[0]]
            for c in range(LANES):
                out[i, c] = value
    else:
        for i in range(STEPS):
            for c in range(LANES):
                out[i, c] = values[b, first + i, head[c]]


@inlined
@no_type_check
def store_rows(values, row, count, c0, width, out):
    """Copy rows of a tile to out (B·L, E)."""
    if count == STEPS and width == LANES:
        for i in range(STEPS):
            r, start = np.uint64(row + i), np.uint64(c0)
            for c in range(np.uint64(LANES)):
                out[r, start + c] = held(out, values[i, c])
    else:
        for i in range(count):
            for c in range(width):
                out[row + i, c0 + c] = held(out, values[i, c])


@inlined
@no_type_check
def weigh(v, a, weighted, whole):
    """Inflows as the state after the block sees them, and the decay over the whole block."""
    for c in range(LANES):
        later = a[3, c]
        weighted[3, c] = v[3, c]
        weighted[2, c] = later * v[2, c]
        later *= a[2, c]
        weighted[1, c] = later * v[1, c]
        later *= a[1, c]
        weighted[0, c] = later * v[0, c]
        whole[c] = later * a[0, c]


@inlined
@no_type_check
def earlier(v, a, seen, s, out):
    """y of a block without each token's own inflow; `seen` holds C_t·h, s the products."""
    for c in range(LANES):
        v0, v1, v2 = v[0, c], v[1, c], v[2, c]
        a0, a1, a2, a3 = a[0, c], a[1, c], a[2, c], a[3, c]
        e1 = a0 * a1
        e2 = e1 * a2
        out[0, c] = a0 * seen[0, c]
        out[1, c] = e1 * seen[1, c] + s[1, 0] * (a1 * v0)
        out[2, c] = e2 * seen[2, c] + a2 * (s[2, 1] * v1 + s[2, 0] * (a1 * v0))
        out[3, c] = e2 * a3 * seen[3, c] + a3 * (s[3, 2] * v2 + a2 * (s[3, 1] * v1 + s[3, 0] * (a1 * v0)))


@inlined
@no_type_check
def load_block(tokens, share, head, block, count, c0, width, u, step, a, v):
    """Load x, Δ and a of one block and tile, and v = Δ x."""
    first = block * STEPS
    load_rows(tokens.x, tokens.distance, share.sample * share.length + first, count, c0, width, u)
    load_heads(tokens.delta, share.sample, first, head, step)
    load_heads(tokens.decay, share.sample, first, head, a)
    for i in range(STEPS):
        for c in range(LANES):
            v[i, c] = step[i, c] * u[i, c]


@inlined
@no_type_check
def _forward_tile(tokens, share, head, D, h, y):
    """Run one tile of channels over a sample; h (N, LANES) is its state."""
    u = carray(stack(_TILE), (STEPS, LANES))
    v = carray(stack(_TILE), (STEPS, LANES))
    a = carray(stack(_TILE), (STEPS, LANES))
    step = carray(stack(_TILE), (STEPS, LANES))
    weighted = carray(stack(_TILE), (STEPS, LANES))
    seen = carray(stack(_TILE), (STEPS, LANES))
    out = carray(stack(_TILE), (STEPS, LANES))
    whole = carray(stack(LANES), (LANES,))
    packed = tokens.packed[share.sample, share.group]
    width = share.end - share.start
    for block in range(packed.shape[0]):
        first = block * STEPS
        count = min(STEPS, share.length - first)
        load_block(tokens, share, head, block, count, share.start, width, u, step, a, v)
        weigh(v, a, weighted, whole)
        clear(seen)
        for n in range(h.shape[0]):
            b0, b1, b2, b3 = (
                packed[block, n, 0],
                packed[block, n, 1],
                packed[block, n, 2],
                packed[block, n, 3],
            )
            q0, q1, q2, q3 = (
                packed[block, n, 4],
                packed[block, n, 5],
                packed[block, n, 6],
                packed[block, n, 7],
            )
            for c in range(LANES):
                old = h[n, c]
                seen[0, c] += q0 * old
                seen[1, c] += q1 * old
                seen[2, c] += q2 * old
                seen[3, c] += q3 * old
                h[n, c] = whole[c] * old + (
                    b0 * weighted[0, c] + b1 * weighted[1, c] + b2 * weighted[2, c] + b3 * weighted[3, c]
                )
        s = tokens.products[share.sample, share.group, block]
        earlier(v, a, seen, s, out)
        for i in range(STEPS):
            own = s[i, i]
            for c in range(LANES):
                out[i, c] += own * v[i, c] + D[c] * u[i, c]
        store_rows(out, share.sample * share.length + first, count, share.start, width, y)


@inlined
@no_type_check
def load_state(state, sample, c0, width, h):
    """Copy a state (B, E, N) to a tile (N, LANES)."""
    for c in range(width):
        for n in range(h.shape[0]):
            h[n, c] = state[sample, c0 + c, n]


@inlined
@no_type_check
def store_state(h, sample, c0, width, state):
    """Copy a tile (N, LANES) to a state (B, E, N)."""
    for c in range(width):
        for n in range(h.shape[0]):
            state[sample, c0 + c, n] = h[n, c]


@parallel_kernel
@no_type_check
def ssd_forward(worker, workers, tokens, D, initial, y, final):
    """Run a batch.

    Args:
        tokens: see `SsdTokens`.
        D: (H,).
        initial: (B, E, N), or (0, E, N) for zeros.
        y: (B·L, E), written; of x's type. final: (B, E, N), written.
    """
    batch, inner, states = final.shape
    groups, heads, length = tokens.packed.shape[1], D.shape[0], y.shape[0] // batch
    size, span = inner // heads, inner // groups
    tiles = (span + LANES - 1) // LANES
    for task in share_of(worker, workers, batch * groups * tiles):
        b = task // (groups * tiles)
        g = task // tiles % groups
        c0 = g * span + task % tiles * LANES
        width = min(LANES, (g + 1) * span - c0)
        head = np.empty(LANES, np.uint64)
        skip = np.empty(LANES, np.float32)
        for c in range(LANES):
            head[c] = (c0 + min(c, width - 1)) // size
            skip[c] = D[head[c]]
        h = np.zeros((states, LANES), np.float32)
        if initial.shape[0] > 0:
            load_state(initial, b, c0, width, h)
        _forward_tile(tokens, SsdShare(b, g, c0, c0 + width, length), head, skip, h, y)
        store_state(h, b, c0, width, final)
