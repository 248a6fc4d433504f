"""Numba kernels of the Mamba-1 selective scan, forward and backward.

A task is one sample and one block of channels, whose state stays in the first-level cache; the innermost loop
runs over the channels of the block, which lie next to one another. Rows are tokens: tensors `B L X` arrive as a
flat array and the distance between rows, so that slices of a wider projection need no copy.
"""

from typing import no_type_check

import numpy as np
from numba import prange

from emma_viz.kernels.numba_math import LOG2E, ONE, ZERO, exp2, kernel, parallel_kernel, sigmoid, softplus

CHUNK = 16
"""Tokens between two states that the forward pass keeps for the backward pass."""


@kernel
@no_type_check
def _step_sizes(raw, bias, use_softplus, out):
    """Write the step sizes Δ of one token."""
    width = out.shape[0]
    if use_softplus:
        for c in range(width):
            out[c] = softplus(raw[c] + bias[c])
    else:
        for c in range(width):
            out[c] = raw[c] + bias[c]


@kernel
@no_type_check
def _forward_block(u, us, dt, dts, A2, B, C, D, z, zs, bias, flags, h, first, length, c0, c1, y, kept):
    """Run one block of channels c0:c1 over the tokens at rows first, first + 1, … ; h (N, width) is the state."""
    has_z, use_softplus, keep = flags
    states, width = h.shape
    delta = np.empty(width, np.float32)
    du = np.empty(width, np.float32)
    out = np.empty(width, np.float32)
    for t in range(length):
        row = first + t
        if keep and t % CHUNK == 0:
            kept[t // CHUNK, :, c0:c1] = h
        ur = u[row * us + c0 : row * us + c1]
        _step_sizes(dt[row * dts + c0 : row * dts + c1], bias, use_softplus, delta)
        for c in range(width):
            du[c] = delta[c] * ur[c]
            out[c] = D[c] * ur[c]
        for n in range(states):
            b, q = B[row, n], C[row, n]
            for c in range(width):
                new = exp2(delta[c] * A2[n, c]) * h[n, c] + du[c] * b
                h[n, c] = new
                out[c] += q * new
        yr = y[row, c0:c1]
        if has_z:
            zr = z[row * zs + c0 : row * zs + c1]
            for c in range(width):
                yr[c] = out[c] * zr[c] * sigmoid(zr[c])
        else:
            for c in range(width):
                yr[c] = out[c]


@parallel_kernel
@no_type_check
def scan_forward(u, us, dt, dts, A, B, C, D, z, zs, bias, flags, initial, y, final, kept, block):
    """Selective scan over a batch.

    Args:
        u, dt, z: flat float32 arrays with row distances us, dts, zs; z is unused when flags[0] is false.
        A: (N, E). B, C: (B·L, N). D, bias: (E,).
        flags: (has z, softplus on dt, keep states for the backward pass).
        initial, final: (B, N, E); `final` is written.
        y: (B·L, E), written.
        kept: (B, chunks, N, E), written when flags[2]: the state before each chunk of tokens.
        block: channels a task.
    """
    batch, _, inner = initial.shape
    length = y.shape[0] // batch
    blocks = (inner + block - 1) // block
    for task in prange(batch * blocks):
        b = task // blocks
        c0 = (task % blocks) * block
        c1 = min(c0 + block, inner)
        h = initial[b, :, c0:c1].copy()
        A2 = A[:, c0:c1] * LOG2E
        _forward_block(
            u,
            us,
            dt,
            dts,
            A2,
            B,
            C,
            D[c0:c1],
            z,
            zs,
            bias[c0:c1],
            flags,
            h,
            b * length,
            length,
            c0,
            c1,
            y,
            kept[b],
        )
        final[b, :, c0:c1] = h


@kernel
@no_type_check
def _recompute_chunk(
    u, us, dt, dts, A2, B, C, D, bias, use_softplus, first, count, c0, c1, past, decay, delta, pre
):
    """Redo the tokens of a chunk from past[0]; keep states (count + 1, N, width), decays, Δ and y before the gate."""
    states, width = A2.shape
    du = np.empty(width, np.float32)
    for t in range(count):
        row = first + t
        ur = u[row * us + c0 : row * us + c1]
        out, d = pre[t], delta[t]
        _step_sizes(dt[row * dts + c0 : row * dts + c1], bias, use_softplus, d)
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
def _backward_inputs(u, d, D, gy, g_delta, g_du, use_softplus, gu, gdt, gD, gbias):
    """From the gradients of Δ and Δ·u to those of u, dt before softplus, D and the bias."""
    for c in range(gu.shape[0]):
        gu[c] = D[c] * gy[c] + g_du[c] * d[c]
        gD[c] += gy[c] * u[c]
        g = g_delta[c] + g_du[c] * u[c]
        if use_softplus:
            # The derivative of softplus, sigmoid(x), equals 1 - exp(-softplus(x)).
            g *= ONE - exp2(-d[c] * LOG2E)
        gdt[c] = g
        gbias[c] += g


@kernel
@no_type_check
def _backward_block(
    u,
    us,
    dt,
    dts,
    A,
    B,
    C,
    D,
    z,
    zs,
    bias,
    flags,
    kept,
    first,
    length,
    c0,
    c1,
    gy,
    g,
    gu,
    gdt,
    gz,
    gA,
    gB,
    gC,
    gD,
    gbias,
):
    has_z, use_softplus, _ = flags
    states, width = g.shape
    A2 = A * LOG2E
    past = np.empty((CHUNK + 1, states, width), np.float32)
    decay = np.empty((CHUNK, states, width), np.float32)
    delta = np.empty((CHUNK, width), np.float32)
    pre = np.empty((CHUNK, width), np.float32)
    gated = np.empty(width, np.float32)
    du = np.empty(width, np.float32)
    g_delta = np.empty(width, np.float32)
    g_du = np.empty(width, np.float32)
    for chunk in range((length - 1) // CHUNK, -1, -1):
        start = chunk * CHUNK
        count = min(CHUNK, length - start)
        past[0] = kept[chunk, :, c0:c1]
        _recompute_chunk(
            u,
            us,
            dt,
            dts,
            A2,
            B,
            C,
            D,
            bias,
            use_softplus,
            first + start,
            count,
            c0,
            c1,
            past,
            decay,
            delta,
            pre,
        )
        for t in range(count - 1, -1, -1):
            row = first + start + t
            ur, d = u[row * us + c0 : row * us + c1], delta[t]
            if has_z:
                _backward_gate(
                    gy[row, c0:c1], z[row * zs + c0 : row * zs + c1], pre[t], gz[row, c0:c1], gated
                )
            else:
                gated[:] = gy[row, c0:c1]
            for c in range(width):
                du[c] = d[c] * ur[c]
                g_delta[c] = ZERO
                g_du[c] = ZERO
            _backward_states(
                g, gated, A, B, C, row, du, d, past, decay, t, gA, g_delta, g_du, gB, gC, start + t
            )
            _backward_inputs(
                ur, d, D, gated, g_delta, g_du, use_softplus, gu[row, c0:c1], gdt[row, c0:c1], gD, gbias
            )


@parallel_kernel
@no_type_check
def scan_backward(
    u, us, dt, dts, A, B, C, D, z, zs, bias, flags, kept, gy, g_final, block,
    gu, gdt, gz, g_initial, gA, gB, gC, gD, gbias,
):  # fmt: skip
    """Gradients of `scan_forward`.

    Args:
        gy: (B·L, E). g_final: (B, N, E). The others as in `scan_forward`.
        gu, gdt, gz: (B·L, E), written. g_initial: (B, N, E), written.
        gA (B, N, E), gD, gbias (B, E): one part a sample, to be summed.
        gB, gC (blocks, B, L, N): one part a block of channels, to be summed.
    """
    batch, states, inner = g_final.shape
    length = gy.shape[0] // batch
    blocks = (inner + block - 1) // block
    for task in prange(batch * blocks):
        b = task // blocks
        j = task % blocks
        c0 = j * block
        c1 = min(c0 + block, inner)
        g = g_final[b, :, c0:c1].copy()
        part_A = np.zeros((states, c1 - c0), np.float32)
        part_D = np.zeros(c1 - c0, np.float32)
        part_bias = np.zeros(c1 - c0, np.float32)
        _backward_block(
            u, us, dt, dts, A[:, c0:c1].copy(), B, C, D[c0:c1], z, zs, bias[c0:c1], flags, kept[b], b * length, length,
            c0, c1, gy, g, gu, gdt, gz, part_A, gB[j, b], gC[j, b], part_D, part_bias,
        )  # fmt: skip
        g_initial[b, :, c0:c1] = g
        gA[b, :, c0:c1] = part_A
        gD[b, c0:c1] = part_D
        gbias[b, c0:c1] = part_bias
