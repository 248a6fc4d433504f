"""Numba kernels of the causal depthwise convolution, forward and backward; layout as in `scan`."""

from typing import no_type_check

import numpy as np

from emma_viz.kernels.numba.bf16 import held, value
from emma_viz.kernels.numba.math import ONE, kernel, parallel_kernel, share_of, sigmoid


@kernel
@no_type_check
def _preactivation(x, xs, taps, bias, initial, first, t, c0, c1, out):
    """Write the convolution of token t of one sample, before the activation."""
    width = c1 - c0
    reach = taps.shape[0] - 1
    for c in range(width):
        out[c] = bias[c]
    for k in range(reach + 1):
        source = t + k - reach
        if source >= 0:
            row = first + source
            xr = x[row * xs + c0 : row * xs + c1]
            for c in range(width):
                out[c] += taps[k, c] * value(xr[c])
        else:
            before = initial[source + reach, c0:c1]
            for c in range(width):
                out[c] += taps[k, c] * before[c]


@parallel_kernel
@no_type_check
def conv_forward(worker, workers, x, xs, taps, bias, initial, silu, y, block):
    """Convolve a batch.

    Args:
        x: flat array of B·L rows, xs apart; float32 or bf16 (see `bf16`).
        taps: (K, E), oldest input first. bias: (E,).
        initial: (B, K - 1, E). y: (B·L, E), written; of x's type.
        block: channels a task.
    """
    batch, inner = initial.shape[0], y.shape[1]
    length = y.shape[0] // batch
    blocks = (inner + block - 1) // block
    for task in share_of(worker, workers, batch * blocks):
        b = task // blocks
        c0 = (task % blocks) * block
        c1 = min(c0 + block, inner)
        part, part_bias = taps[:, c0:c1].copy(), bias[c0:c1]
        out = np.empty(c1 - c0, np.float32)
        for t in range(length):
            _preactivation(x, xs, part, part_bias, initial[b], b * length, t, c0, c1, out)
            yr = y[b * length + t, c0:c1]
            if silu:
                for c in range(c1 - c0):
                    yr[c] = held(yr, out[c] * sigmoid(out[c]))
            else:
                for c in range(c1 - c0):
                    yr[c] = held(yr, out[c])


@kernel
@no_type_check
def _backward_token(x, xs, taps, initial, first, t, c0, c1, g, gx, g_initial, g_taps):
    """Spread the gradient g of one pre-activation over the taps and over the inputs they saw."""
    width = c1 - c0
    reach = taps.shape[0] - 1
    for k in range(reach + 1):
        source = t + k - reach
        if source < 0:
            before, g_before = initial[source + reach, c0:c1], g_initial[source + reach, c0:c1]
            for c in range(width):
                g_taps[k, c] += g[c] * before[c]
                g_before[c] += g[c] * taps[k, c]
            continue
        row = first + source
        xr, gr = x[row * xs + c0 : row * xs + c1], gx[row, c0:c1]
        if k == reach:
            # The first time that this input is met: gx holds nothing yet.
            for c in range(width):
                g_taps[k, c] += g[c] * xr[c]
                gr[c] = g[c] * taps[k, c]
        else:
            for c in range(width):
                g_taps[k, c] += g[c] * xr[c]
                gr[c] += g[c] * taps[k, c]


@parallel_kernel
@no_type_check
def conv_backward(
    worker, workers, x, xs, taps, bias, initial, silu, gy, gx, g_taps, g_bias, g_initial, block
):
    """Gradients of `conv_forward`.

    Args:
        gy: (B·L, E). gx: (B·L, E), written. g_initial: (B, K - 1, E), zeros on entry.
        g_taps (B, K, E), g_bias (B, E): one part a sample, to be summed; g_bias zeros on entry.
    """
    batch, inner = initial.shape[0], gy.shape[1]
    length = gy.shape[0] // batch
    blocks = (inner + block - 1) // block
    for task in share_of(worker, workers, batch * blocks):
        b = task // blocks
        c0 = (task % blocks) * block
        c1 = min(c0 + block, inner)
        width = c1 - c0
        part, part_bias = taps[:, c0:c1].copy(), bias[c0:c1]
        sum_taps, sum_bias = np.zeros((taps.shape[0], width), np.float32), g_bias[b, c0:c1]
        g = np.empty(width, np.float32)
        for t in range(length):
            gr = gy[b * length + t, c0:c1]
            if silu:
                _preactivation(x, xs, part, part_bias, initial[b], b * length, t, c0, c1, g)
                for c in range(width):
                    s = sigmoid(g[c])
                    g[c] = gr[c] * s * (ONE + g[c] * (ONE - s))
            else:
                for c in range(width):
                    g[c] = gr[c]
            for c in range(width):
                sum_bias[c] += g[c]
            _backward_token(x, xs, part, initial[b], b * length, t, c0, c1, g, gx, g_initial[b], sum_taps)
        for k in range(taps.shape[0]):
            for c in range(width):
                g_taps[b, k, c0 + c] = sum_taps[k, c]
