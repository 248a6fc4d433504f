"""Numba kernels of the Mamba-1 selective scan, forward and backward.

A task is one sample and one block of channels, whose state stays in the first-level cache; the innermost loop
runs over the channels of the block, which lie next to one another. Rows are tokens: tensors `B L X` arrive as a
flat array and the distance between rows, so that slices of a wider projection need no copy.
"""

from typing import NamedTuple, no_type_check

import numpy as np

from emma_viz.kernels.numba.bf16 import held, value
from emma_viz.kernels.numba.math import (
    LOG2E,
    ONE,
    ZERO,
    exp2,
    inlined,
    kernel,
    parallel_kernel,
    share_of,
    sigmoid,
    softplus,
)

SCAN_CHUNK = 16
"""Tokens between two states that the forward pass keeps for the backward pass."""


class ScanTokens(NamedTuple):
    """What the kernels read of a batch. Arrays are float32; forward, u, dt and z may be bf16 (see `bf16`)."""

    u: np.ndarray
    """Flat: B·L rows of E channels."""
    u_distance: int
    """Between the rows of u."""
    dt: np.ndarray
    """Step sizes before bias and softplus, flat as u."""
    dt_distance: int
    B: np.ndarray
    """(B·L, N)."""
    C: np.ndarray
    """(B·L, N)."""
    z: np.ndarray
    """The gate, flat as u; unused without one."""
    z_distance: int
    gated: bool
    """Whether there is a gate."""
    softplus: bool
    """Whether the step sizes are softplus of dt + bias."""


class ScanShare(NamedTuple):
    """What a task works on."""

    first: int
    """Row of the first token."""
    length: int
    """Tokens."""
    start: int
    """First channel."""
    end: int
    """After the last channel."""


@inlined
@no_type_check
def _of_row(flat, distance, row, share):
    """The channels of a share in one row."""
    return flat[row * distance + share.start : row * distance + share.end]


@kernel
@no_type_check
def _put(values, out, start):
    """Write (N, width) to the channels of out (N, E) from `start` on."""
    # Not as out[:, …] = values: that takes numba two seconds more to compile.
    for n in range(values.shape[0]):
        for c in range(values.shape[1]):
            out[n, start + c] = values[n, c]


@kernel
@no_type_check
def _step_sizes(raw, bias, use_softplus, out):
    """Write the step sizes Δ of one token."""
    width = out.shape[0]
    if use_softplus:
        for c in range(width):
            out[c] = softplus(value(raw[c]) + bias[c])
    else:
        for c in range(width):
            out[c] = value(raw[c]) + bias[c]


@kernel
@no_type_check
def _forward_block(tokens, share, A2, D, bias, keep, h, y, kept):
    """Run a block of channels over the tokens of a sample; h (N, width) is the state."""
    states, width = h.shape
    B, C = tokens.B, tokens.C
    delta = np.empty(width, np.float32)
    du = np.empty(width, np.float32)
    out = np.empty(width, np.float32)
    for t in range(share.length):
        row = share.first + t
        if keep and t % SCAN_CHUNK == 0:
            _put(h, kept[t // SCAN_CHUNK], share.start)
        ur = _of_row(tokens.u, tokens.u_distance, row, share)
        _step_sizes(_of_row(tokens.dt, tokens.dt_distance, row, share), bias, tokens.softplus, delta)
        for c in range(width):
            u = value(ur[c])
            du[c] = delta[c] * u
            out[c] = D[c] * u
        for n in range(states):
            b, q = B[row, n], C[row, n]
            for c in range(width):
                new = exp2(delta[c] * A2[n, c]) * h[n, c] + du[c] * b
                h[n, c] = new
                out[c] += q * new
        yr = y[row, share.start : share.end]
        if tokens.gated:
            zr = _of_row(tokens.z, tokens.z_distance, row, share)
            for c in range(width):
                z = value(zr[c])
                yr[c] = held(yr, out[c] * z * sigmoid(z))
        else:
            for c in range(width):
                yr[c] = held(yr, out[c])


@parallel_kernel
@no_type_check
def scan_forward(worker, workers, tokens, A, D, bias, keep, initial, y, final, kept, block):
    """Selective scan over a batch.

    Args:
        tokens: see `ScanTokens`.
        A: (N, E). D, bias: (E,).
        keep: whether to keep states for the backward pass.
        initial, final: (B, N, E); `final` is written.
        y: (B·L, E), written; of u's type.
        kept: (B, chunks, N, E), written when `keep`: the state before each chunk of tokens.
        block: channels a task.
    """
    batch, _, inner = initial.shape
    length = y.shape[0] // batch
    blocks = (inner + block - 1) // block
    for task in share_of(worker, workers, batch * blocks):
        b = task // blocks
        c0 = (task % blocks) * block
        c1 = min(c0 + block, inner)
        h = initial[b, :, c0:c1].copy()
        A2 = A[:, c0:c1] * LOG2E
        share = ScanShare(b * length, length, c0, c1)
        _forward_block(tokens, share, A2, D[c0:c1], bias[c0:c1], keep, h, y, kept[b])
        _put(h, final[b], c0)


@kernel
@no_type_check
def _recompute_chunk(tokens, share, A2, D, bias, start, count, past, decay, delta, pre):
    """Redo the tokens of a chunk from past[0]; keep states (count + 1, N, width), decays, Δ and y before the gate."""
    states, width = A2.shape
    B, C = tokens.B, tokens.C
    du = np.empty(width, np.float32)
    for t in range(count):
        row = share.first + start + t
        ur = _of_row(tokens.u, tokens.u_distance, row, share)
        out, d = pre[t], delta[t]
        _step_sizes(_of_row(tokens.dt, tokens.dt_distance, row, share), bias, tokens.softplus, d)
        for c in range(width):
            du[c] = d[c] * ur[c]
            out[c] = D[c] * ur[c]
        for n in range(states):
            b, q = B[row, n], C[row, n]
            for c in range(width):
                a = exp2(d[c] * A2[n, c])
                new = a * past[t, n, c] + du[c] * b
                decay[t, n, c] = a
                past[t + 1, n, c] = new
                out[c] += q * new


@kernel
@no_type_check
def _backward_states(g, gy, A, B, C, row, du, d, past, decay, t, gA, g_delta, g_du, gB, gC, at):
    """One token, against time; g is the gradient of the state after it, and of the state before it on return."""
    states, width = g.shape
    for n in range(states):
        b, q = B[row, n], C[row, n]
        sum_b, sum_c = ZERO, ZERO
        for c in range(width):
            gh = g[n, c] + q * gy[c]
            sum_c += gy[c] * past[t + 1, n, c]
            sum_b += gh * du[c]
            g_du[c] += gh * b
            carried = gh * decay[t, n, c]
            g[n, c] = carried
            through_decay = carried * past[t, n, c]
            gA[n, c] += through_decay * d[c]
            g_delta[c] += through_decay * A[n, c]
        gB[at, n], gC[at, n] = sum_b, sum_c


@kernel
@no_type_check
def _backward_gate(g, z, pre, gz, out):
    """Through y·silu(z): writes the gradient of z and, into out, that of y."""
    for c in range(out.shape[0]):
        s = sigmoid(z[c])
        out[c] = g[c] * z[c] * s
        gz[c] = g[c] * pre[c] * s * (ONE + z[c] * (ONE - s))


@kernel
@no_type_check
def _backward_inputs(u, d, D, gy, g_delta, g_du, use_softplus, gu, gdt, gD, g_bias):
    """From the gradients of Δ and Δ·u to those of u, dt before softplus, D and the bias."""
    for c in range(gu.shape[0]):
        gu[c] = D[c] * gy[c] + g_du[c] * d[c]
        gD[c] += gy[c] * u[c]
        g = g_delta[c] + g_du[c] * u[c]
        if use_softplus:
            # The derivative of softplus, sigmoid(x), equals 1 - exp(-softplus(x)).
            g *= ONE - exp2(-d[c] * LOG2E)
        gdt[c] = g
        g_bias[c] += g


@kernel
@no_type_check
def _backward_block(tokens, share, A, D, bias, kept, gy, g, gu, gdt, gz, gA, gB, gC, gD, g_bias):
    """A block of channels, against time; g (N, width) is the gradient of the state."""
    states, width = g.shape
    A2 = A * LOG2E
    past = np.empty((SCAN_CHUNK + 1, states, width), np.float32)
    decay = np.empty((SCAN_CHUNK, states, width), np.float32)
    delta = np.empty((SCAN_CHUNK, width), np.float32)
    pre = np.empty((SCAN_CHUNK, width), np.float32)
    gated = np.empty(width, np.float32)
    du = np.empty(width, np.float32)
    g_delta = np.empty(width, np.float32)
    g_du = np.empty(width, np.float32)
    c0, c1 = share.start, share.end
    for chunk in range((share.length - 1) // SCAN_CHUNK, -1, -1):
        start = chunk * SCAN_CHUNK
        count = min(SCAN_CHUNK, share.length - start)
        for n in range(states):
            for c in range(width):
                past[0, n, c] = kept[chunk, n, c0 + c]
        _recompute_chunk(tokens, share, A2, D, bias, start, count, past, decay, delta, pre)
        for t in range(count - 1, -1, -1):
            row = share.first + start + t
            ur, d = _of_row(tokens.u, tokens.u_distance, row, share), delta[t]
            if tokens.gated:
                zr = _of_row(tokens.z, tokens.z_distance, row, share)
                _backward_gate(gy[row, c0:c1], zr, pre[t], gz[row, c0:c1], gated)
            else:
                for c in range(width):
                    gated[c] = gy[row, c0 + c]
            for c in range(width):
                du[c] = d[c] * ur[c]
                g_delta[c] = ZERO
                g_du[c] = ZERO
            _backward_states(
                g, gated, A, tokens.B, tokens.C, row, du, d, past, decay, t, gA, g_delta, g_du, gB, gC, start + t
            )  # fmt: skip
            _backward_inputs(
                ur, d, D, gated, g_delta, g_du, tokens.softplus, gu[row, c0:c1], gdt[row, c0:c1], gD, g_bias
            )


@parallel_kernel
@no_type_check
def scan_backward(
    worker, workers, tokens, A, D, bias, kept, gy, g_final, block, gu, gdt, gz, g_initial, gA, gB, gC, gD, g_bias
):  # fmt: skip
    """Gradients of `scan_forward`.

    Args:
        gy: (B·L, E). g_final: (B, N, E). The others as in `scan_forward`.
        gu, gdt, gz: (B·L, E), written. g_initial: (B, N, E), written.
        gA (B, N, E), gD, g_bias (B, E): one part a sample, to be summed; gD and g_bias zeros on entry.
        gB, gC (blocks, B, L, N): one part a block of channels, to be summed.
    """
    batch, states, inner = g_final.shape
    length = gy.shape[0] // batch
    blocks = (inner + block - 1) // block
    for task in share_of(worker, workers, batch * blocks):
        b = task // blocks
        j = task % blocks
        c0 = j * block
        c1 = min(c0 + block, inner)
        share = ScanShare(b * length, length, c0, c1)
        g = g_final[b, :, c0:c1].copy()
        part_A = np.zeros((states, c1 - c0), np.float32)
        _backward_block(
            tokens, share, A[:, c0:c1].copy(), D[c0:c1], bias[c0:c1], kept[b], gy, g, gu, gdt, gz,
            part_A, gB[j, b], gC[j, b], gD[b, c0:c1], g_bias[b, c0:c1],
        )  # fmt: skip
        _put(g, g_initial[b], c0)
        _put(part_A, gA[b], c0)
