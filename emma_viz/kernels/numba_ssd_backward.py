"""Numba kernels of the Mamba-2 SSD, backward; notation as in `numba_ssd`.

A task owns some heads of one group and one sample. It sweeps over the tokens twice and keeps no history of states:

1. forward, redoing the states h: the gradient of C, Σ over channels of gy_t h_t, and gy_t y″_t, where y″ is y without
   each token's own inflow;
2. backward, carrying the gradient g of the state: the gradients of v and of B, and v_t gv″_t.

The gradient of log a_t then needs no product of two states: it is T_t = T_{t+1} + gy_t y″_t − v_t gv″_t, summed over
the channels of a head. Leaving out the own inflows on both sides, whose products are equal, keeps T exact when the
decay is strong; and every few blocks the sum starts afresh from T = h·g before the token, lest rounding add up.
"""

from typing import no_type_check

import numpy as np
from numba import prange

from emma_viz.kernels.numba_lanes import HALF, LANES, carray, stack
from emma_viz.kernels.numba_math import LOG2E, ONE, ZERO, exp2, inlined, kernel, parallel_kernel
from emma_viz.kernels.numba_ssd import STEPS, clear, earlier, load_heads, load_rows, store_rows, weigh

FRESH = 16
"""Blocks between two states that the first sweep keeps, for T to start afresh."""

_TILE = STEPS * LANES
_PAIRS = STEPS * STEPS
_PAIRS_TILE = _PAIRS * LANES


@inlined
@no_type_check
def _seen_by_outputs(gy, a, out, whole):
    """gy_t E_t: the gradient of C_t·h with respect to the state before the block; and the decay over the block."""
    for c in range(LANES):
        decay = a[0, c]
        out[0, c] = decay * gy[0, c]
        decay *= a[1, c]
        out[1, c] = decay * gy[1, c]
        decay *= a[2, c]
        out[2, c] = decay * gy[2, c]
        decay *= a[3, c]
        out[3, c] = decay * gy[3, c]
        whole[c] = decay


@inlined
@no_type_check
def _pair_products(v, gy, a, pairs):
    """Add gy_t v_j a_{j+1}…a_t at [t · STEPS + j], channel by channel."""
    for c in range(LANES):
        for j in range(STEPS):
            value = v[j, c]
            pairs[j * STEPS + j, c] += gy[j, c] * value
            for t in range(j + 1, STEPS):
                value *= a[t, c]
                pairs[t * STEPS + j, c] += gy[t, c] * value


@inlined
@no_type_check
def _later(gy, a, seen, s, out):
    """gv of a block without each token's own output; `seen` holds B_j·g of the state after the block."""
    for c in range(LANES):
        g1, g2, g3 = gy[1, c], gy[2, c], gy[3, c]
        a1, a2, a3 = a[1, c], a[2, c], a[3, c]
        out[3, c] = seen[3, c]
        out[2, c] = a3 * (seen[2, c] + s[3, 2] * g3)
        out[1, c] = a2 * (s[2, 1] * g2 + a3 * (seen[1, c] + s[3, 1] * g3))
        out[0, c] = a1 * (s[1, 0] * g1 + a2 * (s[2, 0] * g2 + a3 * (seen[0, c] + s[3, 0] * g3)))


@inlined
@no_type_check
def _add_to_heads(values, sign, b, first, head, out):
    """Add the channels of a tile to a sum a head, for the tokens of a block."""
    for i in range(STEPS):
        if head[0] == head[LANES - 1]:
            total = ZERO
            for c in range(LANES):
                total += values[i, c]
            out[b, first + i, head[0]] += sign * total
        else:
            for c in range(LANES):
                out[b, first + i, head[c]] += sign * values[i, c]


@kernel
@no_type_check
def _drain(sums, s, other, at, reverse, block, count, out):
    """Write the gradients of C (or, in reverse, of B) of one block, and clear the sums (N, STEPS, HALF).

    Besides the sums over channels, token t gets the tokens j ≤ t of its block (in reverse, j ≥ t) through `s`.
    """
    for n in range(sums.shape[0]):
        for t in range(STEPS):
            total = ZERO
            for c in range(HALF):
                total += sums[n, t, c]
                sums[n, t, c] = ZERO
            for j in range(STEPS):
                if reverse:
                    total += s[j, t] * other[block, n, at + j]
                else:
                    total += s[t, j] * other[block, n, at + j]
            if t < count:
                out[block * STEPS + t, n] = total


@kernel
@no_type_check
def _forward_tile(u, v, gy, a, s, packed, block, h, sums, pairs, out):
    """One tile and one block of the first sweep; writes gy_t y″_t to out."""
    weighted = carray(stack(_TILE), (STEPS, LANES))
    seen = carray(stack(_TILE), (STEPS, LANES))
    back = carray(stack(_TILE), (STEPS, LANES))
    whole = carray(stack(LANES), (LANES,))
    weigh(v, a, weighted, whole)
    _seen_by_outputs(gy, a, back, whole)
    _pair_products(v, gy, a, pairs)
    clear(seen)
    for n in range(h.shape[0]):
        b0, b1, b2, b3 = packed[block, n, 0], packed[block, n, 1], packed[block, n, 2], packed[block, n, 3]
        q0, q1, q2, q3 = packed[block, n, 4], packed[block, n, 5], packed[block, n, 6], packed[block, n, 7]
        for c in range(HALF):
            d = c + HALF
            old, far = h[n, c], h[n, d]
            seen[0, c] += q0 * old
            seen[1, c] += q1 * old
            seen[2, c] += q2 * old
            seen[3, c] += q3 * old
            seen[0, d] += q0 * far
            seen[1, d] += q1 * far
            seen[2, d] += q2 * far
            seen[3, d] += q3 * far
            sums[n, 0, c] += back[0, c] * old + back[0, d] * far
            sums[n, 1, c] += back[1, c] * old + back[1, d] * far
            sums[n, 2, c] += back[2, c] * old + back[2, d] * far
            sums[n, 3, c] += back[3, c] * old + back[3, d] * far
            h[n, c] = whole[c] * old + (
                b0 * weighted[0, c] + b1 * weighted[1, c] + b2 * weighted[2, c] + b3 * weighted[3, c]
            )
            h[n, d] = whole[d] * far + (
                b0 * weighted[0, d] + b1 * weighted[1, d] + b2 * weighted[2, d] + b3 * weighted[3, d]
            )
    earlier(v, a, seen, s, out)
    for i in range(STEPS):
        for c in range(LANES):
            out[i, c] *= gy[i, c]


@kernel
@no_type_check
def _backward_tile(v, gy, a, s, packed, block, g, sums, out):
    """One tile and one block of the second sweep; writes gv″ to out."""
    weighted = carray(stack(_TILE), (STEPS, LANES))
    seen = carray(stack(_TILE), (STEPS, LANES))
    back = carray(stack(_TILE), (STEPS, LANES))
    whole = carray(stack(LANES), (LANES,))
    weigh(v, a, weighted, whole)
    _seen_by_outputs(gy, a, back, whole)
    clear(seen)
    for n in range(g.shape[0]):
        b0, b1, b2, b3 = packed[block, n, 0], packed[block, n, 1], packed[block, n, 2], packed[block, n, 3]
        q0, q1, q2, q3 = packed[block, n, 4], packed[block, n, 5], packed[block, n, 6], packed[block, n, 7]
        for c in range(HALF):
            d = c + HALF
            old, far = g[n, c], g[n, d]
            seen[0, c] += b0 * old
            seen[1, c] += b1 * old
            seen[2, c] += b2 * old
            seen[3, c] += b3 * old
            seen[0, d] += b0 * far
            seen[1, d] += b1 * far
            seen[2, d] += b2 * far
            seen[3, d] += b3 * far
            sums[n, 0, c] += weighted[0, c] * old + weighted[0, d] * far
            sums[n, 1, c] += weighted[1, c] * old + weighted[1, d] * far
            sums[n, 2, c] += weighted[2, c] * old + weighted[2, d] * far
            sums[n, 3, c] += weighted[3, c] * old + weighted[3, d] * far
            g[n, c] = whole[c] * old + (q0 * back[0, c] + q1 * back[1, c] + q2 * back[2, c] + q3 * back[3, c])
            g[n, d] = whole[d] * far + (q0 * back[0, d] + q1 * back[1, d] + q2 * back[2, d] + q3 * back[3, d])
    _later(gy, a, seen, s, out)


@inlined
@no_type_check
def _crossing_states(h, g, head, b, mark, out):
    """Add h·g of all tiles to T a head before the token of a mark."""
    for tile in range(h.shape[0]):
        products = carray(stack(LANES), (LANES,))
        for c in range(LANES):
            products[c] = ZERO
        for n in range(h.shape[1]):
            for c in range(LANES):
                products[c] += h[tile, n, c] * g[tile, n, c]
        for c in range(LANES):
            out[b, mark, head[tile, c]] += products[c]


@kernel
@no_type_check
def _first_sweep(
    x,
    xs,
    delta,
    decay,
    packed,
    products,
    gy,
    inner,
    head,
    b,
    length,
    channels,
    h,
    kept,
    sums,
    s,
    crossing,
    gC,
):
    """Over all tiles h (tiles, N, LANES) of a task; writes gC, the states at the marks, and the sums of pairs to s."""
    start, end = channels
    u = carray(stack(_TILE), (STEPS, LANES))
    v = carray(stack(_TILE), (STEPS, LANES))
    g = carray(stack(_TILE), (STEPS, LANES))
    a = carray(stack(_TILE), (STEPS, LANES))
    step = carray(stack(_TILE), (STEPS, LANES))
    out = carray(stack(_TILE), (STEPS, LANES))
    pairs = carray(stack(_PAIRS_TILE), (_PAIRS, LANES))
    clear(u)
    clear(g)
    for block in range(packed.shape[0]):
        first = block * STEPS
        count = min(STEPS, length - first)
        row = b * length + first
        if block % FRESH == 0:
            kept[block // FRESH] = h
        for i in range(_PAIRS):
            for c in range(LANES):
                pairs[i, c] = ZERO
        for tile in range(h.shape[0]):
            c0 = start + tile * LANES
            width = min(LANES, end - c0)
            if width < LANES:
                clear(u)
                clear(g)
            load_rows(x, xs, row, count, c0, width, u)
            load_rows(gy, inner, row, count, c0, width, g)
            load_heads(delta, b, first, head[tile], step)
            load_heads(decay, b, first, head[tile], a)
            for i in range(STEPS):
                for c in range(LANES):
                    v[i, c] = step[i, c] * u[i, c]
            _forward_tile(u, v, g, a, products[block], packed, block, h[tile], sums, pairs, out)
            _add_to_heads(out, ONE, b, first, head[tile], crossing)
        for t in range(STEPS):
            for j in range(STEPS):
                total = ZERO
                for c in range(LANES):
                    total += pairs[t * STEPS + j, c]
                s[block, t, j] = total
        _drain(sums, s[block], packed, 0, False, block, count, gC)


@kernel
@no_type_check
def _second_sweep(
    x, xs, delta, decay, packed, products, gy, inner, D, head, b, length, channels, g, kept, sums, s, crossing,
    marks, gB, gx, g_step, gD,
):  # fmt: skip
    """Against time, over all tiles g (tiles, N, LANES) of a task; adds to crossing, and to g_step the sum of x gv."""
    start, end = channels
    u = carray(stack(_TILE), (STEPS, LANES))
    v = carray(stack(_TILE), (STEPS, LANES))
    gr = carray(stack(_TILE), (STEPS, LANES))
    a = carray(stack(_TILE), (STEPS, LANES))
    step = carray(stack(_TILE), (STEPS, LANES))
    gv = carray(stack(_TILE), (STEPS, LANES))
    product = carray(stack(_TILE), (STEPS, LANES))
    clear(u)
    clear(gr)
    for block in range(packed.shape[0] - 1, -1, -1):
        first = block * STEPS
        count = min(STEPS, length - first)
        row = b * length + first
        for tile in range(g.shape[0]):
            c0 = start + tile * LANES
            width = min(LANES, end - c0)
            if width < LANES:
                clear(u)
                clear(gr)
            load_rows(x, xs, row, count, c0, width, u)
            load_rows(gy, inner, row, count, c0, width, gr)
            load_heads(delta, b, first, head[tile], step)
            load_heads(decay, b, first, head[tile], a)
            for i in range(STEPS):
                for c in range(LANES):
                    v[i, c] = step[i, c] * u[i, c]
            own = products[block]
            _backward_tile(v, gr, a, own, packed, block, g[tile], sums, gv)
            for i in range(STEPS):
                for c in range(LANES):
                    product[i, c] = v[i, c] * gv[i, c]
            _add_to_heads(product, -ONE, b, first, head[tile], crossing)
            for i in range(STEPS):
                for c in range(LANES):
                    gv[i, c] += own[i, i] * gr[i, c]
                    product[i, c] = u[i, c] * gv[i, c]
                    gD[tile, c] += gr[i, c] * u[i, c]
                    gv[i, c] = step[i, c] * gv[i, c] + D[tile, c] * gr[i, c]
            _add_to_heads(product, ONE, b, first, head[tile], g_step)
            store_rows(gv, row, count, c0, width, gx)
        _drain(sums, s[block], packed, STEPS, True, block, count, gB)
        if block % FRESH == 0:
            _crossing_states(kept[block // FRESH], g, head, b, block // FRESH, marks)


@kernel
@no_type_check
def _step_gradients(delta, A, use_softplus, b, heads, length, crossing, marks, g_step, gdt, gA, g_bias):
    """From the sums a head to the gradients of dt, A and the bias."""
    for h in range(heads[0], heads[1]):
        # In fp64: a sum over the whole sequence whose terms cancel.
        total = np.float64(marks[b, marks.shape[1] - 1, h])
        sum_A, sum_bias = 0.0, 0.0
        for t in range(length - 1, -1, -1):
            total += crossing[b, t, h]
            if t % (FRESH * STEPS) == 0:
                total = marks[b, t // (FRESH * STEPS), h]
            step = delta[b, t, h]
            g = g_step[b, t, h] + A[h] * np.float32(total)
            sum_A += step * total
            if use_softplus:
                g *= ONE - exp2(-step * LOG2E)
            sum_bias += g
            gdt[b, t, h] = g
        gA[b, h] = sum_A
        g_bias[b, h] = sum_bias


@parallel_kernel
@no_type_check
def ssd_backward(
    x, xs, delta, decay, packed, products, D, A, use_softplus, initial, gy, g_final, parts,
    gx, gdt, g_initial, gB, gC, gA, gD, g_bias,
):  # fmt: skip
    """Gradients of `prepare` and `ssd_forward` together.

    Args:
        A: (H,). initial, g_final: (B, E, N). gy: (B·L·E,).
        parts: tasks that share the heads of a group.
        gx (B·L, E), gdt (B, L, H), g_initial (B, E, N): written.
        gB, gC (parts, B, G, L, N): one part a task, to be summed.
        gA, gD, g_bias (B, H): one part a sample, to be summed.
    """
    batch, inner, states = initial.shape
    groups, blocks, heads, length = packed.shape[1], packed.shape[2], delta.shape[2], gdt.shape[1]
    size, share = inner // heads, heads // groups
    crossing = np.zeros((batch, blocks * STEPS, heads), np.float32)
    g_step = np.zeros((batch, blocks * STEPS, heads), np.float32)
    # T before the tokens at which a state is kept, and after the last token.
    fresh = (blocks + FRESH - 1) // FRESH
    marks = np.zeros((batch, fresh + 1, heads), np.float32)
    for task in prange(batch * groups * parts):
        b = task // (groups * parts)
        group = task // parts % groups
        part = task % parts
        h0 = group * share + share * part // parts
        h1 = group * share + share * (part + 1) // parts
        channels = (h0 * size, h1 * size)
        tiles = (channels[1] - channels[0] + LANES - 1) // LANES
        head = np.empty((tiles, LANES), np.uint64)
        skip, g_skip = np.empty((tiles, LANES), np.float32), np.zeros((tiles, LANES), np.float32)
        kept = np.empty((fresh, tiles, states, LANES), np.float32)
        h, g = np.zeros((tiles, states, LANES), np.float32), np.zeros((tiles, states, LANES), np.float32)
        for tile in range(tiles):
            for c in range(LANES):
                channel = min(channels[0] + tile * LANES + c, channels[1] - 1)
                head[tile, c] = channel // size
                skip[tile, c] = D[channel // size]
        for e in range(channels[1] - channels[0]):
            for n in range(states):
                h[e // LANES, n, e % LANES] = initial[b, channels[0] + e, n]
                g[e // LANES, n, e % LANES] = g_final[b, channels[0] + e, n]
        sums = np.zeros((states, STEPS, HALF), np.float32)
        s = np.empty((blocks, STEPS, STEPS), np.float32)
        _first_sweep(
            x, xs, delta, decay, packed[b, group], products[b, group], gy, inner, head, b, length, channels,
            h, kept, sums, s, crossing, gC[part, b, group],
        )  # fmt: skip
        _crossing_states(h, g, head, b, fresh, marks)
        _second_sweep(
            x, xs, delta, decay, packed[b, group], products[b, group], gy, inner, skip, head, b, length, channels,
            g, kept, sums, s, crossing, marks, gB[part, b, group], gx, g_step, g_skip,
        )  # fmt: skip
        _step_gradients(delta, A, use_softplus, b, (h0, h1), length, crossing, marks, g_step, gdt, gA, g_bias)
        for k in range(h0, h1):
            gD[b, k] = ZERO
        for e in range(channels[1] - channels[0]):
            gD[b, (channels[0] + e) // size] += g_skip[e // LANES, e % LANES]
            for n in range(states):
                g_initial[b, channels[0] + e, n] = g[e // LANES, n, e % LANES]
