"""The specification: each kernel written as the recurrence it stands for, one token at a time.

Slow and readable. Every other backend is tested against these functions, values and gradients. The signatures are
those of all backend modules: no defaults, no checks (`emma_viz.kernels.api` did those), fp32 accumulation
(fp64 for fp64 inputs). Autograd differentiates them.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which a kernel accumulates inputs of `dtype`."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def without_autocast(device: torch.device) -> AbstractContextManager:
    """A context in which products of fp32 tensors are fp32: autocast would round the factors to bf16 first."""
    kind = device.type  # the meta device knows no autocast
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if on else nullcontext()


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
    """Mamba-1: h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t u_t, y_t = C_t·h_t + D u_t, gated by silu(z_t)."""
    dtype = accumulation_dtype(u.dtype)
    state = initial_state
    if state is None:
        state = u.new_zeros(u.shape[0], u.shape[2], A.shape[1], dtype=dtype)
    outputs = []
    for t in range(u.shape[1]):
        y, state = selective_scan_step(
            state, u[:, t], delta[:, t], A, B[:, t], C[:, t], D,
            None if z is None else z[:, t], delta_bias, delta_softplus,
        )  # fmt: skip
        outputs.append(y)
    return torch.stack(outputs, dim=1), state.to(dtype)


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
    """One token of `selective_scan`."""
    dtype = accumulation_dtype(u.dtype)
    x, B, C = u.to(dtype), B.to(dtype), C.to(dtype)
    step = step_sizes(delta, delta_bias, delta_softplus, dtype)
    decay = torch.exp(step[..., None] * A.to(dtype))
    state = decay * state.to(dtype) + (step * x)[..., None] * B[:, None, :]
    y = (state * C[:, None, :]).sum(dim=-1)
    if D is not None:
        y = y + D.to(dtype) * x
    if z is not None:
        y = y * functional.silu(z.to(dtype))
    return y.to(u.dtype), state


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
    """Mamba-2: as `selective_scan`, with one scalar A and one step size a head; a group of heads shares B and C."""
    dtype = accumulation_dtype(x.dtype)
    state = initial_state
    if state is None:
        state = x.new_zeros(x.shape[0], x.shape[2], x.shape[3], B.shape[3], dtype=dtype)
    outputs = []
    for t in range(x.shape[1]):
        y, state = ssd_step(state, x[:, t], dt[:, t], A, B[:, t], C[:, t], D, dt_bias, dt_softplus)
        outputs.append(y)
    return torch.stack(outputs, dim=1), state.to(dtype)


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
    """One token of `ssd`."""
    dtype = accumulation_dtype(x.dtype)
    heads_per_group = x.shape[1] // B.shape[1]
    u = x.to(dtype)
    B, C = (matrix.to(dtype).repeat_interleave(heads_per_group, dim=1) for matrix in (B, C))
    step = step_sizes(dt, dt_bias, dt_softplus, dtype)
    decay = torch.exp(step * A.to(dtype))
    inflow = (step[..., None] * u)[..., None] * B[:, :, None, :]
    state = decay[..., None, None] * state.to(dtype) + inflow
    y = (state * C[:, :, None, :]).sum(dim=-1)
    if D is not None:
        y = y + D.to(dtype)[:, None] * u
    return y.to(x.dtype), state


def causal_conv1d(
    x: Float[Tensor, "B L E"],
    weight: Float[Tensor, "E K"],
    bias: Float[Tensor, " E"] | None,
    initial_state: Float[Tensor, "B J E"] | None,
    activation: str | None,
) -> Float[Tensor, "B L E"]:
    """Depthwise convolution over the current token and the J = K − 1 before it, then SiLU when asked."""
    before = weight.shape[1] - 1
    state = x.new_zeros(x.shape[0], before, x.shape[2]) if initial_state is None else initial_state
    outputs = []
    for t in range(x.shape[1]):
        y, state = causal_conv1d_step(state, x[:, t], weight, bias, activation)
        outputs.append(y)
    return torch.stack(outputs, dim=1)


def causal_conv1d_step(
    state: Float[Tensor, "B J E"],
    x: Float[Tensor, "B E"],
    weight: Float[Tensor, "E K"],
    bias: Float[Tensor, " E"] | None,
    activation: str | None,
) -> tuple[Float[Tensor, "B E"], Float[Tensor, "B J E"]]:
    """One token of `causal_conv1d`; the state holds the J = K − 1 inputs before it, oldest first."""
    dtype = accumulation_dtype(x.dtype)
    window = torch.cat([state.to(x.dtype), x[:, None]], dim=1)
    y = (window.to(dtype) * weight.to(dtype).T).sum(dim=1)
    if bias is not None:
        y = y + bias.to(dtype)
    if activation == "silu":
        y = functional.silu(y)
    return y.to(x.dtype), window[:, 1:]


def gated_rms_norm(
    x: Float[Tensor, "B L E"],
    gate: Float[Tensor, "B L E"],
    weight: Float[Tensor, " E"],
    groups: int,
    eps: float,
) -> Float[Tensor, "B L E"]:
    """RMS norm of x · silu(gate) within each group of channels, in fp32."""
    gated = rearrange(x.float() * functional.silu(gate.float()), "B L (G e) -> B L G e", G=groups)
    normed = functional.rms_norm(gated, gated.shape[-1:], None, eps)
    return (rearrange(normed, "B L G e -> B L (G e)") * weight.float()).to(x.dtype)


def step_sizes(raw: Tensor, bias: Tensor | None, softplus: bool, dtype: torch.dtype) -> Tensor:
    """Step sizes Δ of raw values `... X` and a bias `X`."""
    step = raw.to(dtype)
    if bias is not None:
        step = step + bias.to(dtype)
    return functional.softplus(step) if softplus else step
