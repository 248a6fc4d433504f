"""The `cuda` backend: the compiled kernels of mamba_ssm and causal_conv1d behind our signatures.

mamba_ssm's Mamba-1 scan and causal_conv1d are channel-first (`B E L`); its SSD is token-major like ours. What they lack
is made up for exactly: the Mamba-1 scan takes no initial state (see `_with_state_tokens`) and ignores the gradient
of its final state (see `_FinalState`).
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from emma_viz.kernels.reference import step_sizes
from emma_viz.kernels.torch import scan as torch_scan

_CHUNK = 256
"""Tokens a chunk of mamba_ssm's SSD; the default of the released models."""

_SOURCES = {
    # The extension is imported first: recent builds of mamba_ssm come without it, and still import.
    "selective_scan": (
        ("selective_scan_cuda", ""),
        ("mamba_ssm.ops.selective_scan_interface", "selective_scan_fn"),
    ),
    "ssd": (("mamba_ssm.ops.triton.ssd_combined", "mamba_chunk_scan_combined"),),
    "causal_conv1d": (("causal_conv1d", "causal_conv1d_fn"),),
}
"""Kernel → what must be importable: (module, function); the last function is the kernel."""

_STILL = 2.0**-40
"""A step size so small that every decay exp(Δ A) is exactly one in fp32."""


def _load(kernel: str) -> Callable:
    """The compiled function of a kernel.

    Raises:
        ImportError: a package is missing or was built without the kernel.
    """
    found: list[Any] = []
    for module, name in _SOURCES[kernel]:
        imported = import_module(module)
        try:
            found.append(getattr(imported, name) if name else None)
        except AttributeError as error:
            raise ImportError(f"{module} has no {name}") from error
    return found[-1]


@cache
def missing(kernel: str) -> str:
    """Why a kernel cannot be loaded; empty when it can. Found out once: a failed import runs again at every try."""
    try:
        _load(kernel)
    except ImportError as error:
        return f"{error} (pip install 'emma-viz[cuda]')"
    except Exception as error:  # of a package that was built for another torch, or is broken
        return f"its package cannot be imported: {type(error).__name__}: {error}"
    return ""


def limits(kernel: str, sizes: dict[str, int]) -> str:
    """Why a kernel does not take these sizes; empty when it does."""
    if kernel == "selective_scan" and sizes["N"] > 256:
        return f"mamba_ssm takes at most 256 states, not {sizes['N']}"
    if kernel == "causal_conv1d" and not 2 <= sizes["K"] <= 4:
        return f"causal_conv1d takes filters of 2 to 4 taps, not {sizes['K']}"
    if kernel == "causal_conv1d" and sizes["E"] % 8:
        return f"causal_conv1d takes multiples of 8 channels, not {sizes['E']}"
    return ""


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
    if initial_state is None:
        gate, bias = None if z is None else z.to(u.dtype), _float(delta_bias)
        y, last = _scan(u, delta, A, B, C, D, gate, bias, delta_softplus)
    else:
        y, last = _with_state_tokens(u, delta, A, B, C, D, delta_bias, delta_softplus, initial_state)
        if z is not None:
            y = y * functional.silu(z.float())
        y = y.to(u.dtype)
    final = _FinalState.apply(last.detach(), u, delta, A, B, delta_bias, initial_state, delta_softplus)
    return y, final


def _scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus):
    """mamba_ssm's function, fed channel-first, all inputs in u's dtype and all parameters in fp32."""
    u, delta, B, C, z = (None if t is None else t.to(u.dtype).transpose(1, 2) for t in (u, delta, B, C, z))
    y, last = _load("selective_scan")(
        u, delta, A.float(), B, C, _float(D), z=z, delta_bias=delta_bias, delta_softplus=delta_softplus,
        return_last_state=True,
    )  # fmt: skip
    return y.transpose(1, 2), last


def _with_state_tokens(u, delta, A, B, C, D, delta_bias, delta_softplus, initial_state):
    """Scan in fp32 after N tokens that write the initial state, one state index each, and whose outputs are dropped.

    Token n has B = the n-th unit vector, Δ = 2^-40 and u = 2^40 h_0[:, n]: it adds h_0[:, n] and leaves the rest as
    it is. Powers of two scale without rounding, so values and gradients are those of a scan that starts from h_0.
    """
    states = A.shape[1]
    step = step_sizes(delta, delta_bias, delta_softplus, torch.float32)
    written = rearrange(initial_state.float(), "B E N -> B N E")
    unit = torch.eye(states, device=u.device).expand(u.shape[0], states, states)
    y, last = _scan(
        torch.cat([written / _STILL, u.float()], dim=1),
        torch.cat([torch.full_like(written, _STILL), step], dim=1),
        A,
        torch.cat([unit, B.float()], dim=1),
        torch.cat([torch.zeros_like(unit), C.float()], dim=1),
        D,
        None,
        None,
        False,
    )
    return y[:, states:], last


class _FinalState(torch.autograd.Function):
    """Gives the final state the gradient that mamba_ssm ignores; the torch backend computes it, if it is asked for."""

    @staticmethod
    def forward(ctx, last, u, delta, A, B, delta_bias, initial, softplus):
        ctx.save_for_backward(u, delta, A, B, delta_bias, initial)
        ctx.softplus = softplus
        return last.view_as(last)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        inputs: list[Any] = [None if t is None else t.detach().requires_grad_() for t in ctx.saved_tensors]
        u, delta, A, B, delta_bias, initial = inputs
        with torch.enable_grad():
            unseen = torch.zeros_like(B)
            _, final = torch_scan.selective_scan(
                u, delta, A, B, unseen, None, None, delta_bias, ctx.softplus, initial
            )  # fmt: skip
            gradients = iter(
                torch.autograd.grad(final, [t for t in inputs if t is not None], g.to(final.dtype))
            )
        return None, *(None if t is None else next(gradients) for t in inputs), None


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
    """See `emma_viz.kernels.reference.ssd`."""
    y, final = _load("ssd")(
        x, dt, A.float(), B.to(x.dtype), C.to(x.dtype), chunk_size=_CHUNK, D=_float(D), dt_bias=_float(dt_bias),
        initial_states=_float(initial_state), dt_softplus=dt_softplus, return_final_states=True,
    )  # fmt: skip
    return y, final.float()


def causal_conv1d(
    x: Float[Tensor, "B L E"],
    weight: Float[Tensor, "E K"],
    bias: Float[Tensor, " E"] | None,
    initial_state: Float[Tensor, "B J E"] | None,
    activation: str | None,
) -> Float[Tensor, "B L E"]:
    """See `emma_viz.kernels.reference.causal_conv1d`."""
    # Of that layout the kernel takes strides that are multiples of 8 alone; `contiguous` keeps those of a single row.
    if x.stride(2) != 1 or x.stride(0) % 8 or x.stride(1) % 8:
        x = x.clone(memory_format=torch.contiguous_format)
    # Transposed views: the kernel wants its initial states channel-last, and is fastest that way.
    state = None if initial_state is None else initial_state.to(x.dtype).transpose(1, 2)
    y = _load("causal_conv1d")(
        x.transpose(1, 2), weight, None if bias is None else bias.to(weight.dtype), initial_states=state,
        activation=activation,
    )  # fmt: skip
    return y.transpose(1, 2)


def _float(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.float()
