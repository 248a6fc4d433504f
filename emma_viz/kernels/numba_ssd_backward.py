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
from emma_viz.kernels.numba_ssd import (
    STEPS,
    Share,
    load_block,
    load_rows,
    load_state,
    store_rows,
    store_state,
)
from emma_viz.kernels.numba_ssd_tiles import backward_tile, forward_tile

FRESH = 16
"""Blocks between two states that the first sweep keeps, for T to start afresh."""

_TILE = STEPS * LANES
_PAIRS = STEPS * STEPS
_PAIRS_TILE = _PAIRS * LANES


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
def _drain(sums, pairs, others, share, first, count, reduced, out):
    """Write the gradients of C or B of one block, and clear the sums (N, STEPS, HALF) over channels.

    Token t also gets the tokens j of its block, whose rows are in `others`, times pairs[t, j].
    """
    states = sums.shape[0]
    for n in range(states):
        for t in range(STEPS):
            total = ZERO
            for c in range(HALF):
                total += sums[n, t, c]
            reduced[t, n] = total
    sums[:] = ZERO
    for t in range(count):
        target = out[first + t]
        for n in range(states):
            target[n] = reduced[t, n]
        for j in range(count):
            weight, other = pairs[t, j], others[share.sample, first + j, share.group]
            for n in range(states):
                target[n] += weight * other[n]


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
def _first_sweep(tokens, share, gy, inner, head, h, kept, sums, pairs, crossing, gC):
    """Over all tiles h (tiles, N, LANES) of a task; writes gC, the states at the marks, and the sums of pairs."""
    u = carray(stack(_TILE), (STEPS, LANES))
    v = carray(stack(_TILE), (STEPS, LANES))
    g = carray(stack(_TILE), (STEPS, LANES))
    a = carray(stack(_TILE), (STEPS, LANES))
    step = carray(stack(_TILE), (STEPS, LANES))
    out = carray(stack(_TILE), (STEPS, LANES))
    products = carray(stack(_PAIRS_TILE), (_PAIRS, LANES))
    packed, own = tokens.packed[share.sample, share.group], tokens.products[share.sample, share.group]
    reduced = np.empty((STEPS, h.shape[1]), np.float32)
    for block in range(packed.shape[0]):
        first = block * STEPS
        count = min(STEPS, share.length - first)
        if block % FRESH == 0:
            kept[block // FRESH] = h
        for i in range(_PAIRS):
            for c in range(LANES):
                products[i, c] = ZERO
        for tile in range(h.shape[0]):
            c0 = share.start + tile * LANES
            width = min(LANES, share.end - c0)
            load_block(tokens, share, head[tile], block, count, c0, width, u, step, a, v)
            load_rows(gy, inner, share.sample * share.length + first, count, c0, width, g)
            forward_tile(v, g, a, own[block], packed, block, h[tile], sums, products, out)
            _add_to_heads(out, ONE, share.sample, first, head[tile], crossing)
        for t in range(STEPS):
            for j in range(STEPS):
                total = ZERO
                for c in range(LANES):
                    total += products[t * STEPS + j, c]
                pairs[block, t, j] = total
        _drain(sums, pairs[block], tokens.B, share, first, count, reduced, gC)


@kernel
@no_type_check
def _second_sweep(
    tokens, share, gy, inner, head, D, g, kept, sums, pairs, crossing, marks, gB, gx, g_step, gD
):
    """Against time, over all tiles g (tiles, N, LANES); adds to crossing, and to g_step the sums of x gv."""
    u = carray(stack(_TILE), (STEPS, LANES))
    v = carray(stack(_TILE), (STEPS, LANES))
    gr = carray(stack(_TILE), (STEPS, LANES))
    a = carray(stack(_TILE), (STEPS, LANES))
    step = carray(stack(_TILE), (STEPS, LANES))
    gv = carray(stack(_TILE), (STEPS, LANES))
    product = carray(stack(_TILE), (STEPS, LANES))
    packed, own = tokens.packed[share.sample, share.group], tokens.products[share.sample, share.group]
    reduced = np.empty((STEPS, g.shape[1]), np.float32)
    for block in range(packed.shape[0] - 1, -1, -1):
        first = block * STEPS
        count = min(STEPS, share.length - first)
        row = share.sample * share.length + first
        for tile in range(g.shape[0]):
            c0 = share.start + tile * LANES
            width = min(LANES, share.end - c0)
            load_block(tokens, share, head[tile], block, count, c0, width, u, step, a, v)
            load_rows(gy, inner, row, count, c0, width, gr)
            backward_tile(v, gr, a, own[block], packed, block, g[tile], sums, gv)
            for i in range(STEPS):
                for c in range(LANES):
                    product[i, c] = v[i, c] * gv[i, c]
            _add_to_heads(product, -ONE, share.sample, first, head[tile], crossing)
            for i in range(STEPS):
                for c in range(LANES):
                    gv[i, c] += own[block, i, i] * gr[i, c]
                    product[i, c] = u[i, c] * gv[i, c]
                    gD[tile, c] += gr[i, c] * u[i, c]
                    gv[i, c] = step[i, c] * gv[i, c] + D[tile, c] * gr[i, c]
            _add_to_heads(product, ONE, share.sample, first, head[tile], g_step)
            store_rows(gv, row, count, c0, width, gx)
        _drain(sums, pairs[block].T, tokens.C, share, first, count, reduced, gB)
        if block % FRESH == 0:
            _crossing_states(kept[block // FRESH], g, head, share.sample, block // FRESH, marks)


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


@kernel
@no_type_check
def _lanes_of_heads(share, size, D, head, skip):
    """The head and the skip weight of each channel of the tiles; channels past the end repeat the last one."""
    for tile in range(head.shape[0]):
        for c in range(LANES):
            head[tile, c] = min(share.start + tile * LANES + c, share.end - 1) // size
            skip[tile, c] = D[head[tile, c]]


@kernel
@no_type_check
def _load_states(state, share, out):
    """Copy the states of a task to tiles (tiles, N, LANES); without a state nothing."""
    if state.shape[0] > 0:
        for tile in range(out.shape[0]):
            c0 = share.start + tile * LANES
            load_state(state, share.sample, c0, min(LANES, share.end - c0), out[tile])


@kernel
@no_type_check
def _store_states(tiles, share, state):
    """Copy tiles to the states of a task, if they are asked for."""
    if state.shape[0] > 0:
        for tile in range(tiles.shape[0]):
            c0 = share.start + tile * LANES
            store_state(tiles[tile], share.sample, c0, min(LANES, share.end - c0), state)


@parallel_kernel
@no_type_check
def ssd_backward(
    tokens, D, A, use_softplus, initial, gy, g_final, parts, gx, gdt, g_initial, gB, gC, gA, gD, g_bias
):  # fmt: skip
    """Gradients of `prepare` and `ssd_forward` together.

    Args:
        tokens, D, initial: as in `ssd_forward`. A: (H,).
        gy: (B·L·E,). g_final: (B, E, N), or (0, E, N) for zeros.
        parts: tasks that share the heads of a group.
        gx (B·L, E), gdt (B, L, H): written. g_initial (B, E, N): written unless it is (0, E, N).
        gB, gC (parts, B, G, L, N): one part a task, to be summed.
        gA, gD, g_bias (B, H): one part a sample, to be summed; gD is zero on entry.
    """
    inner, states = initial.shape[1], initial.shape[2]
    batch, length, heads = gdt.shape
    groups, blocks = tokens.packed.shape[1], tokens.packed.shape[2]
    size, span = inner // heads, heads // groups
    crossing, g_step = np.zeros_like(tokens.delta), np.zeros_like(tokens.delta)
    # T before the tokens at which a state is kept, and after the last token.
    fresh = (blocks + FRESH - 1) // FRESH
    marks = np.zeros((batch, fresh + 1, heads), np.float32)
    for task in prange(batch * groups * parts):
        b = task // (groups * parts)
        group = task // parts % groups
        part = task % parts
        h0 = group * span + span * part // parts
        h1 = group * span + span * (part + 1) // parts
        share = Share(b, group, h0 * size, h1 * size, length)
        tiles = (share.end - share.start + LANES - 1) // LANES
        head, skip = np.empty((tiles, LANES), np.uint64), np.empty((tiles, LANES), np.float32)
        _lanes_of_heads(share, size, D, head, skip)
        g_skip = np.zeros((tiles, LANES), np.float32)
        h, g = np.zeros((tiles, states, LANES), np.float32), np.zeros((tiles, states, LANES), np.float32)
        _load_states(initial, share, h)
        _load_states(g_final, share, g)
        kept = np.empty((fresh, tiles, states, LANES), np.float32)
        sums = np.zeros((states, STEPS, HALF), np.float32)
        pairs = np.empty((blocks, STEPS, STEPS), np.float32)
        _first_sweep(tokens, share, gy, inner, head, h, kept, sums, pairs, crossing, gC[part, b, group])
        _crossing_states(h, g, head, b, fresh, marks)
        _second_sweep(
            tokens, share, gy, inner, head, skip, g, kept, sums, pairs, crossing, marks, gB[part, b, group],
            gx, g_step, g_skip,
        )  # fmt: skip
        _step_gradients(
            tokens.delta, A, use_softplus, b, (h0, h1), length, crossing, marks, g_step, gdt, gA, g_bias
        )
        for e in range(share.end - share.start):
            gD[b, (share.start + e) // size] += g_skip[e // LANES, e % LANES]
        _store_states(g, share, g_initial)
