"""Numba kernels of the Mamba-2 SSD, forward: blocks of four tokens, tiles of LANES channels.

With h the state before a block, a_t the decays, v_t = Δ_t x_t, and E_t = a_1…a_t, token t of the block has

    y_t = E_t C_t·h + Σ_{j≤t} (C_t·B_j) a_{j+1}…a_t v_j,

and the state after the block is E_4 h + Σ_j a_{j+1}…a_4 v_j B_j: the state is read and written once in four tokens.
B and C of a block are packed side by side for that loop, and the products C_t·B_j are formed once for all channels.
A channel is one of the H·P inner channels; channels of one group share B and C.
"""

from typing import no_type_check

import numpy as np
from numba import prange

from emma_viz.kernels.numba_lanes import LANES, carray, stack
from emma_viz.kernels.numba_math import LOG2E, ZERO, exp2, inlined, kernel, parallel_kernel, softplus

STEPS = 4
"""Tokens of a block. The kernels are written out for this number."""

_TILE = STEPS * LANES


@parallel_kernel
@no_type_check
def prepare(dt, bias, A, use_softplus, B, C, delta, decay, packed, products):
    """Step sizes, decays, and B and C block by block; padded to whole blocks with tokens that change nothing.

    Args:
        dt: (B, L, H). bias, A: (H,). B, C: (B, L, G, N).
        delta, decay: (B, blocks · STEPS, H), written.
        packed: (B, G, blocks, N, 2 · STEPS), written: B of the four tokens, then C.
        products: (B, G, blocks, STEPS, STEPS), written: C_t·B_j at [t, j].
    """
    batch, length, heads = dt.shape
    groups, blocks, states = packed.shape[1], packed.shape[2], packed.shape[3]
    for task in prange(batch * blocks):
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
                for n in range(states):
                    packed[b, g, block, n, i] = B[b, t, g, n] if t < length else ZERO
                    packed[b, g, block, n, STEPS + i] = C[b, t, g, n] if t < length else ZERO
        for g in range(groups):
            for i in range(STEPS):
                for j in range(STEPS):
                    total = ZERO
                    for n in range(states):
                        total += packed[b, g, block, n, STEPS + i] * packed[b, g, block, n, j]
                    products[b, g, block, i, j] = total


@inlined
@no_type_check
def load_rows(flat, distance, row, count, c0, width, out):
    """Copy `count` rows of `width` channels into out (STEPS, LANES); the missing rows become zero."""
    for i in range(STEPS):
        if i < count:
            start = (row + i) * distance + c0
            source = flat[start : start + width]
            for c in range(width):
                out[i, c] = source[c]
        else:
            for c in range(LANES):
                out[i, c] = ZERO


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
    for i in range(count):
        target = out[row + i, c0 : c0 + width]
        for c in range(width):
            target[c] = values[i, c]


@inlined
@no_type_check
def clear(values):
    """Fill a tile (STEPS, LANES) with zeros."""
    for i in range(STEPS):
        for c in range(LANES):
            values[i, c] = ZERO


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


@kernel
@no_type_check
def _forward_tile(x, xs, delta, decay, packed, products, D, head, b, length, c0, width, h, y):
    """Run one tile of channels over a sample; h (N, LANES) is its state."""
    states = h.shape[0]
    v = carray(stack(_TILE), (STEPS, LANES))
    u = carray(stack(_TILE), (STEPS, LANES))
    a = carray(stack(_TILE), (STEPS, LANES))
    step = carray(stack(_TILE), (STEPS, LANES))
    weighted = carray(stack(_TILE), (STEPS, LANES))
    seen = carray(stack(_TILE), (STEPS, LANES))
    out = carray(stack(_TILE), (STEPS, LANES))
    whole = carray(stack(LANES), (LANES,))
    clear(u)
    for block in range(packed.shape[0]):
        first = block * STEPS
        count = min(STEPS, length - first)
        row = b * length + first
        load_rows(x, xs, row, count, c0, width, u)
        load_heads(delta, b, first, head, step)
        load_heads(decay, b, first, head, a)
        for i in range(STEPS):
            for c in range(LANES):
                v[i, c] = step[i, c] * u[i, c]
        weigh(v, a, weighted, whole)
        clear(seen)
        for n in range(states):
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
        s = products[block]
        earlier(v, a, seen, s, out)
        for i in range(STEPS):
            own = s[i, i]
            for c in range(LANES):
                out[i, c] += own * v[i, c] + D[c] * u[i, c]
        store_rows(out, row, count, c0, width, y)


@parallel_kernel
@no_type_check
def ssd_forward(x, xs, delta, decay, packed, products, D, initial, y, final):
    """Run a batch.

    Args:
        x: flat float32 array of B·L rows of E = H·P channels, xs apart.
        delta, decay, packed, products: see `prepare`.
        D: (H,). initial, final: (B, E, N), of which `final` is written; y: (B·L, E), written.
    """
    batch, inner, states = initial.shape
    groups, heads, length = packed.shape[1], delta.shape[2], y.shape[0] // batch
    size, span = inner // heads, inner // groups
    tiles = (span + LANES - 1) // LANES
    for task in prange(batch * groups * tiles):
        b = task // (groups * tiles)
        g = task // tiles % groups
        c0 = g * span + task % tiles * LANES
        width = min(LANES, (g + 1) * span - c0)
        head = np.empty(LANES, np.uint64)
        skip = np.empty(LANES, np.float32)
        h = np.zeros((states, LANES), np.float32)
        for c in range(LANES):
            head[c] = (c0 + min(c, width - 1)) // size
            skip[c] = D[head[c]]
        for c in range(width):
            for n in range(states):
                h[n, c] = initial[b, c0 + c, n]
        _forward_tile(
            x, xs, delta, decay, packed[b, g], products[b, g], skip, head, b, length, c0, width, h, y
        )  # fmt: skip
        for c in range(width):
            for n in range(states):
                final[b, c0 + c, n] = h[n, c]
