"""The `cpu` backend: autograd around the numba kernels. Importing this module imports numba.

Everything is computed in fp32. Forward kernels read and write the sequences in bf16 too, number by number; all else of
another dtype is converted on the way in and out.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from emma_viz.kernels.backends import wants_gradient
from emma_viz.kernels.numba import conv as numba_conv
from emma_viz.kernels.numba import linear as numba_linear
from emma_viz.kernels.numba import norm as numba_norm
from emma_viz.kernels.numba import scan as numba_scan
from emma_viz.kernels.numba import ssd as numba_ssd
from emma_viz.kernels.numba import steps as numba_steps
from emma_viz.kernels.numba.rows import (
    array,
    array_or_zeros,
    block_width,
    parameter,
    read_only,
    rows_of,
    rows_type,
    tensor_of,
    total,
)
from emma_viz.kernels.numba.threads import run_kernel, thread_count
from emma_viz.kernels.torch import ssd as torch_ssd

_SHARED = 1 << 18
"""Numbers from which threads share a step or a norm: fewer are done before another thread wakes. Of a product, those of
weights that each thread has at least."""


def selective_scan(
    u: Float[Tensor, "B L E"],
    delta: Float[Tensor, "B L E"],
    A: Float[Tensor, "E N"],
    B: Float[Tensor, "B L N"],
    C: Float[Tensor, "B L N"],
    D: Float[Tensor, " E"] | None,
    z: Float[Tensor, "B L E"] | None,
    delta_bias: Float[Tensor, " E"] | None,
    delta_softplus: bool,
    initial_state: Float[Tensor, "B E N"] | None,
) -> tuple[Float[Tensor, "B L E"], Float[Tensor, "B E N"]]:
    """See `emma_viz.kernels.reference.selective_scan`."""
    tensors = (u, delta, A, B, C, D, z, delta_bias, initial_state)
    return _SelectiveScan.apply(*tensors, delta_softplus, wants_gradient(*tensors))


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
    """See `emma_viz.kernels.reference.ssd`.

    Where a gradient is wanted, torch's chunks: their matrix products make the gradient faster than sweeps over states.
    """
    if wants_gradient(x, dt, A, B, C, D, dt_bias, initial_state):
        return torch_ssd.ssd(x, dt, A, B, C, D, dt_bias, dt_softplus, initial_state)
    batch, length, heads, size = x.shape
    inner, states = heads * size, B.shape[3]
    tokens = _prepare(x, dt, A, B, C, dt_bias, dt_softplus)
    y = np.empty((batch * length, inner), tokens.x.dtype)
    final = np.empty((batch, inner, states), np.float32)
    start = array_or_zeros(initial_state, 0, inner, states).reshape(-1, inner, states)
    run_kernel(numba_ssd.ssd_forward, tokens, parameter(D, heads), start, y, final)
    final = torch.from_numpy(final).view(batch, heads, size, states)
    return tensor_of(y, x), final


def selective_scan_step(
    state: Float[Tensor, "B E N"],
    u: Float[Tensor, "B E"],
    delta: Float[Tensor, "B E"],
    A: Float[Tensor, "E N"],
    B: Float[Tensor, "B N"],
    C: Float[Tensor, "B N"],
    D: Float[Tensor, " E"] | None,
    z: Float[Tensor, "B E"] | None,
    delta_bias: Float[Tensor, " E"] | None,
    delta_softplus: bool,
) -> tuple[Float[Tensor, "B E"], Float[Tensor, "B E N"]]:
    """See `emma_viz.kernels.reference.selective_scan_step`. No gradient."""
    batch, inner, states = state.shape
    y, new = np.empty((batch, inner), np.float32), np.empty((batch, inner, states), np.float32)
    gate = y if z is None else array(z)
    run_kernel(
        numba_steps.scan_step, array(state), array(u), array(delta), parameter(A, inner), parameter(D, inner),
        parameter(delta_bias, inner), array(B), array(C), gate, z is not None, delta_softplus, y, new,
        workers=_workers_for(state),
    )  # fmt: skip
    return torch.from_numpy(y).to(u.dtype), torch.from_numpy(new)


def ssd_step(
    state: Float[Tensor, "B H P N"],
    x: Float[Tensor, "B H P"],
    dt: Float[Tensor, "B H"],
    A: Float[Tensor, " H"],
    B: Float[Tensor, "B G N"],
    C: Float[Tensor, "B G N"],
    D: Float[Tensor, " H"] | None,
    dt_bias: Float[Tensor, " H"] | None,
    dt_softplus: bool,
) -> tuple[Float[Tensor, "B H P"], Float[Tensor, "B H P N"]]:
    """See `emma_viz.kernels.reference.ssd_step`. No gradient."""
    heads = x.shape[1]
    y, new = np.empty(x.shape, np.float32), np.empty(state.shape, np.float32)
    run_kernel(
        numba_steps.ssd_step, array(state), array(x), array(dt), parameter(A, heads), parameter(D, heads),
        parameter(dt_bias, heads), array(B), array(C), dt_softplus, y, new, workers=_workers_for(state),
    )  # fmt: skip
    return torch.from_numpy(y).to(x.dtype), torch.from_numpy(new)


def causal_conv1d(
    x: Float[Tensor, "B L E"],
    weight: Float[Tensor, "E K"],
    bias: Float[Tensor, " E"] | None,
    initial_state: Float[Tensor, "B J E"] | None,
    activation: str | None,
) -> Float[Tensor, "B L E"]:
    """See `emma_viz.kernels.reference.causal_conv1d`."""
    return _CausalConv.apply(x, weight, bias, initial_state, activation == "silu")


def causal_conv1d_step(
    state: Float[Tensor, "B J E"],
    x: Float[Tensor, "B E"],
    weight: Float[Tensor, "E K"],
    bias: Float[Tensor, " E"] | None,
    activation: str | None,
) -> tuple[Float[Tensor, "B E"], Float[Tensor, "B J E"]]:
    """See `emma_viz.kernels.reference.causal_conv1d_step`. No gradient."""
    inner = x.shape[1]
    y, new = np.empty(x.shape, np.float32), np.empty(state.shape, np.float32)
    run_kernel(
        numba_steps.conv_step, array(state), array(x), parameter(weight, inner), parameter(bias, inner),
        activation == "silu", y, new, workers=_workers_for(x),
    )  # fmt: skip
    return torch.from_numpy(y).to(x.dtype), torch.from_numpy(new).to(x.dtype)


def gated_rms_norm(
    x: Float[Tensor, "B L E"],
    gate: Float[Tensor, "B L E"],
    weight: Float[Tensor, " E"],
    groups: int,
    eps: float,
) -> Float[Tensor, "B L E"]:
    """See `emma_viz.kernels.reference.gated_rms_norm`. No gradient."""
    inner = x.shape[2]
    dtype = rows_type(x, gate)
    inputs, gates = rows_of(x, dtype), rows_of(gate, dtype)
    y = np.empty((x.shape[0] * x.shape[1], inner), inputs[0].dtype)
    run_kernel(
        numba_norm.gated_norm, *inputs, *gates, parameter(weight, inner), groups, eps, y, workers=_workers_for(x)
    )  # fmt: skip
    return tensor_of(y, x)


def linear(
    x: Float[Tensor, "*rows X"], weight: Float[Tensor, "Y X"], bias: Float[Tensor, " Y"] | None
) -> Float[Tensor, "*rows Y"]:
    """See `emma_viz.kernels.linear`; sums are of fp32, rounded once. No gradient.

    Args:
        x: one to `MOST_ROWS` rows, fp32 or bf16.
        weight: contiguous, of x's dtype.
        bias: added.
    """
    rows = array(x).reshape(-1, x.shape[-1])
    workers = min(thread_count(), max(1, weight.numel() // _SHARED))
    if kernel := numba_linear.NAMED_SUMS.get(len(rows)):
        y = np.empty((len(rows), weight.shape[0]), np.float32)
        run_kernel(kernel, rows, read_only(weight), y, workers=workers)
    else:
        many, kernel = next(each for each in numba_linear.SIDE_BY_SIDE.items() if len(rows) <= each[0])
        inputs = np.zeros((rows.shape[1], many), np.float32)
        inputs[:, : len(rows)] = rows.T
        outputs = np.empty((weight.shape[0], many), np.float32)
        run_kernel(kernel, inputs, read_only(weight), outputs, workers=workers)
        y = np.ascontiguousarray(outputs[:, : len(rows)].T)
    out = torch.from_numpy(y)
    if bias is not None:
        out += bias
    return out.view(*x.shape[:-1], -1).to(x.dtype)


MOST_ROWS = max(numba_linear.SIDE_BY_SIDE)
"""That `linear` takes: a vector of them, of the widest that this machine has."""


def _workers_for(tensor: Tensor) -> int:
    return thread_count() if tensor.numel() >= _SHARED else 1


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, z, delta_bias, initial, softplus, keep):
        batch, length, inner = u.shape
        states = A.shape[1]
        block = block_width(batch, inner, thread_count())
        arguments = _scan_arguments(u, delta, A, B, C, D, z, delta_bias, softplus, rows_type(u, delta, z))
        start = np.zeros((batch, states, inner), np.float32)
        if initial is not None:
            start = array(initial.transpose(1, 2))
        y = np.empty((batch * length, inner), arguments[0].u.dtype)
        final = np.empty_like(start)
        chunks = -(-length // numba_scan.SCAN_CHUNK) if keep else 0
        kept = np.empty((batch, chunks, states, inner), np.float32)
        run_kernel(numba_scan.scan_forward, *arguments, keep, start, y, final, kept, block)
        ctx.save_for_backward(u, delta, A, B, C, D, z, delta_bias, torch.from_numpy(kept))
        ctx.softplus, ctx.initial_dtype = softplus, None if initial is None else initial.dtype
        final = torch.from_numpy(final).transpose(1, 2).contiguous()
        return tensor_of(y, u), final

    @staticmethod
    @once_differentiable
    def backward(ctx, gy, g_final):
        *tensors, kept = ctx.saved_tensors
        u, delta, A, B, C, D, z, delta_bias = tensors
        batch, length, inner = u.shape
        states = A.shape[1]
        block = block_width(batch, inner, thread_count())
        blocks = -(-inner // block)
        gu, gdt = (np.empty((batch * length, inner), np.float32) for _ in range(2))
        gz = np.empty((batch * length if z is not None else 1, inner), np.float32)
        g_initial, gA = (np.empty((batch, states, inner), np.float32) for _ in range(2))
        gB, gC = (np.empty((blocks, batch, length, states), np.float32) for _ in range(2))
        gD, g_bias = (np.zeros((batch, inner), np.float32) for _ in range(2))
        run_kernel(
            numba_scan.scan_backward, *_scan_arguments(*tensors, ctx.softplus, torch.float32), kept.numpy(),
            array(gy).reshape(batch * length, inner), array(g_final.transpose(1, 2)), block,
            gu, gdt, gz, g_initial, gA, gB, gC, gD, g_bias,
        )  # fmt: skip
        return (
            tensor_of(gu, u),
            tensor_of(gdt, delta),
            total(gA, (states, inner), A.dtype).T,
            total(gB, B.shape, B.dtype),
            total(gC, C.shape, C.dtype),
            None if D is None else total(gD, D.shape, D.dtype),
            None if z is None else tensor_of(gz, z),
            None if delta_bias is None else total(g_bias, (inner,), delta_bias.dtype),
            None
            if ctx.initial_dtype is None
            else torch.from_numpy(g_initial).transpose(1, 2).to(ctx.initial_dtype),
            None,
            None,
        )


def _scan_arguments(u, delta, A, B, C, D, z, delta_bias, softplus, dtype):
    """The arguments that `scan_forward` and `scan_backward` share; u, delta and z are read in `dtype`."""
    inner, states = A.shape
    inputs, steps = rows_of(u, dtype), rows_of(delta, dtype)
    gate = (np.zeros(1, inputs[0].dtype), 0) if z is None else rows_of(z, dtype)
    B, C = array(B).reshape(-1, states), array(C).reshape(-1, states)
    tokens = numba_scan.ScanTokens(*inputs, *steps, B, C, *gate, z is not None, softplus)
    return tokens, parameter(A.T, inner), parameter(D, inner), parameter(delta_bias, inner)


def _prepare(x, dt, A, B, C, dt_bias, softplus):
    """What the kernels of the SSD read."""
    batch, length, heads, size = x.shape
    groups, states = B.shape[2:]
    steps = numba_ssd.STEPS
    blocks = -(-length // steps)
    delta, decay = (np.empty((batch, blocks * steps, heads), np.float32) for _ in range(2))
    packed = np.empty((batch, groups, blocks, states, 2 * steps), np.float32)
    products = np.empty((batch, groups, blocks, steps, steps), np.float32)
    B, C = array(B), array(C)
    run_kernel(
        numba_ssd.prepare, array(dt), parameter(dt_bias, heads), parameter(A, heads), softplus, B, C,
        delta, decay, packed, products,
    )  # fmt: skip
    flat, distance = rows_of(x.reshape(batch, length, heads * size), rows_type(x))
    return numba_ssd.SsdTokens(flat, distance, delta, decay, packed, products, B, C)


class _CausalConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, initial, silu):
        batch, length, inner = x.shape
        arguments = _conv_arguments(x, weight, bias, initial, silu, rows_type(x))
        y = np.empty((batch * length, inner), arguments[0].dtype)
        run_kernel(numba_conv.conv_forward, *arguments, y, block_width(batch, inner, thread_count()))
        ctx.save_for_backward(x, weight, bias, initial)
        ctx.silu = silu
        return tensor_of(y, x)

    @staticmethod
    @once_differentiable
    def backward(ctx, gy):
        x, weight, bias, initial = ctx.saved_tensors
        batch, length, inner = x.shape
        taps = weight.shape[1]
        gx = np.empty((batch * length, inner), np.float32)
        g_taps, g_bias = np.empty((batch, taps, inner), np.float32), np.zeros((batch, inner), np.float32)
        g_initial = np.zeros((batch, taps - 1, inner), np.float32)
        run_kernel(
            numba_conv.conv_backward, *_conv_arguments(x, weight, bias, initial, ctx.silu, torch.float32),
            array(gy).reshape(batch * length, inner), gx, g_taps, g_bias, g_initial,
            block_width(batch, inner, thread_count()),
        )  # fmt: skip
        return (
            tensor_of(gx, x),
            total(g_taps, (taps, inner), weight.dtype).T,
            None if bias is None else total(g_bias, (inner,), bias.dtype),
            None if initial is None else torch.from_numpy(g_initial).to(initial.dtype),
            None,
        )


def _conv_arguments(x, weight, bias, initial, silu, dtype):
    """The arguments that `conv_forward` and `conv_backward` share; x is read in `dtype`."""
    inner, taps = weight.shape
    before = array_or_zeros(initial, x.shape[0], taps - 1, inner)
    return *rows_of(x, dtype), parameter(weight.T, inner), parameter(bias, inner), before, silu
