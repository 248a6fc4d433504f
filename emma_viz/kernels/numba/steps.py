"""Numba kernels of one token, which generation runs: a row of the state is read once and written once.

A worker takes its share of the channels of every sample; the innermost loop runs over the states of one.
"""

from typing import no_type_check

import numpy as np

from emma_viz.kernels.numba.math import LOG2E, exp2, parallel_kernel, share_of, sigmoid, softplus


@parallel_kernel
@no_type_check
def scan_step(worker, workers, state, u, dt, A, D, bias, B, C, z, gated, use_softplus, y, new):
    """One token of the selective scan.

    Args:
        state, new: (B, E, N); `new` is written.
        u, dt, y: (B, E); `y` is written. z: the same where `gated`.
        A: (E, N). D, bias: (E,). B, C: (B, N).
    """
    batch, inner, states = state.shape
    mine = share_of(worker, workers, inner)
    c0, c1, width = mine.start, mine.stop, len(mine)
    steps = np.empty(width, np.float32)
    # Slices, as LLVM makes no vector code of a loop whose index may be negative.
    rates, skip, added = A[c0:c1], D[c0:c1], bias[c0:c1]
    for b in range(batch):
        step, given, out_row = dt[b, c0:c1], u[b, c0:c1], y[b, c0:c1]
        before, after = state[b, c0:c1], new[b, c0:c1]
        for c in range(width):
            steps[c] = step[c] + added[c]
        if use_softplus:
            for c in range(width):
                steps[c] = softplus(steps[c])
        # In loops of their own: LLVM makes no vector code of an exponential and a sum in one.
        for c in range(width):
            rate, inflow = steps[c] * LOG2E, steps[c] * given[c]
            for n in range(states):
                after[c, n] = exp2(rate * rates[c, n]) * before[c, n] + inflow * B[b, n]
        for c in range(width):
            out = skip[c] * given[c]
            for n in range(states):
                out += C[b, n] * after[c, n]
            out_row[c] = out
        if gated:
            gate = z[b, c0:c1]
            for c in range(width):
                out_row[c] *= gate[c] * sigmoid(gate[c])


@parallel_kernel
@no_type_check
def ssd_step(worker, workers, state, x, dt, A, D, bias, B, C, use_softplus, y, new):
    """One token of the SSD.

    Args:
        state, new: (B, H, P, N); `new` is written.
        x, y: (B, H, P); `y` is written. dt: (B, H).
        A, D, bias: (H,). B, C: (B, G, N).
    """
    batch, heads, size, states = state.shape
    shared = heads // B.shape[1]
    for b in range(batch):
        for h in share_of(worker, workers, heads):
            g = h // shared
            step = dt[b, h] + bias[h]
            if use_softplus:
                step = softplus(step)
            decay = exp2(step * A[h] * LOG2E)
            for p in range(size):
                inflow, out = step * x[b, h, p], D[h] * x[b, h, p]
                for n in range(states):
                    value = decay * state[b, h, p, n] + inflow * B[b, g, n]
                    new[b, h, p, n] = value
                    out += C[b, g, n] * value
                y[b, h, p] = out


@parallel_kernel
@no_type_check
def conv_step(worker, workers, state, x, weight, bias, silu, y, new):
    """One token of the convolution.

    Args:
        state, new: (B, K - 1, E), oldest first; `new` is written.
        x, y: (B, E); `y` is written.
        weight: (E, K). bias: (E,).
    """
    batch, before, inner = state.shape
    mine = share_of(worker, workers, inner)
    c0, c1, width = mine.start, mine.stop, len(mine)
    taps, added = np.empty((before + 1, width), np.float32), bias[c0:c1]
    for c in range(width):
        for k in range(before + 1):
            taps[k, c] = weight[c0 + c, k]
    for b in range(batch):
        given, out, kept, after = x[b, c0:c1], y[b, c0:c1], state[b, :, c0:c1], new[b, :, c0:c1]
        for c in range(width):
            out[c] = added[c] + taps[before, c] * given[c]
        for k in range(before):
            for c in range(width):
                out[c] += taps[k, c] * kept[k, c]
        if silu:
            for c in range(width):
                out[c] *= sigmoid(out[c])
        for k in range(before):
            last = given if k == before - 1 else kept[k + 1]
            for c in range(width):
                after[k, c] = last[c]
