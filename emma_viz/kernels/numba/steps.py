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
    steps = np.empty(inner, np.float32)
    for b in range(batch):
        for c in mine:
            steps[c] = dt[b, c] + bias[c]
        if use_softplus:
            for c in mine:
                steps[c] = softplus(steps[c])
        # In loops of their own: LLVM makes no vector code of an exponential and a sum in one.
        for c in mine:
            rate, inflow = steps[c] * LOG2E, steps[c] * u[b, c]
            for n in range(states):
                new[b, c, n] = exp2(rate * A[c, n]) * state[b, c, n] + inflow * B[b, n]
        for c in mine:
            out = D[c] * u[b, c]
            for n in range(states):
                out += C[b, n] * new[b, c, n]
            y[b, c] = out
        if gated:
            for c in mine:
                y[b, c] *= z[b, c] * sigmoid(z[b, c])


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
