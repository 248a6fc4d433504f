"""One token at a time: what generation runs. The `cpu` and `triton` backends have kernels of their own; elsewhere, and
where a gradient is wanted, it is plain torch."""

from functools import cache
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter, functional

from emma_viz.errors import InputError
from emma_viz.kernels import reference
from emma_viz.kernels.backends import (
    backend_module,
    is_watched,
    require_backend,
    resolve_backend,
    runs_on_numba,
    wants_gradient,
)
from emma_viz.kernels.checks import check_activation, check_groups, check_rank, check_shapes

_WITH_STEPS = {"selective_scan": ("cpu", "triton"), "ssd": ("cpu", "triton"), "causal_conv1d": ("cpu",)}
"""Kernel → the backends whose module has a kernel of one step of it."""

_FEW_ROWS = {torch.float32: 16, torch.bfloat16: 2}
"""Dtype → the most rows that the `cpu` backend's product is faster with, as measured (decision 1)."""
_WIDENED_FROM = 8
"""Rows in half precision that torch multiplies in no more time than it takes to widen the weights."""
_BLOCK = 1 << 22
"""Numbers of weights that are widened at once."""
_FROM_MEMORY = 1 << 18
"""Numbers of weights from which the kernel is taken; below, its call is too much of its time (decision 1)."""


def selective_scan_step(
    state: Float[Tensor, "B E N"],
    u: Float[Tensor, "B E"],
    delta: Float[Tensor, "B E"],
    A: Float[Tensor, "E N"],
    B: Float[Tensor, "B N"],
    C: Float[Tensor, "B N"],
    D: Float[Tensor, " E"] | None = None,
    *,
    z: Float[Tensor, "B E"] | None = None,
    delta_bias: Float[Tensor, " E"] | None = None,
    delta_softplus: bool = False,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B E"], Float[Tensor, "B E N"]]:
    """One token of `selective_scan`.

    Args:
        state: state before the token. The others as in `selective_scan`, without the axis L.

    Returns:
        The output in u's dtype, and the new state in fp32; `state` is left as it was.

    Raises:
        InputError: a tensor's shape does not fit the others.
        BackendError: the requested backend cannot run here.
    """
    check_rank("selective_scan_step", "state", state, "B E N")
    sizes = dict(zip("BEN", state.shape, strict=True))
    expected = {
        "u": (u, "B E"), "delta": (delta, "B E"), "A": (A, "E N"), "B": (B, "B N"), "C": (C, "B N"),
        "D": (D, "E"), "z": (z, "B E"), "delta_bias": (delta_bias, "E"),
    }  # fmt: skip
    check_shapes("selective_scan_step", sizes, expected)
    module = _module(backend, "selective_scan", state, u, delta, A, B, C, D, z, delta_bias)
    return module.selective_scan_step(state, u, delta, A, B, C, D, z, delta_bias, delta_softplus)


def ssd_step(
    state: Float[Tensor, "B H P N"],
    x: Float[Tensor, "B H P"],
    dt: Float[Tensor, "B H"],
    A: Float[Tensor, " H"],
    B: Float[Tensor, "B G N"],
    C: Float[Tensor, "B G N"],
    D: Float[Tensor, " H"] | None = None,
    *,
    dt_bias: Float[Tensor, " H"] | None = None,
    dt_softplus: bool = False,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B H P"], Float[Tensor, "B H P N"]]:
    """One token of `ssd`.

    Args:
        state: state before the token. The others as in `ssd`, without the axis L.

    Returns:
        The output in x's dtype, and the new state in fp32; `state` is left as it was.

    Raises:
        InputError: a tensor's shape does not fit the others.
        BackendError: the requested backend cannot run here.
    """
    check_rank("ssd_step", "state", state, "B H P N")
    check_rank("ssd_step", "B", B, "B G N")
    sizes = {**dict(zip("BHPN", state.shape, strict=True)), "G": B.shape[1]}
    expected = {
        "x": (x, "B H P"), "dt": (dt, "B H"), "A": (A, "H"), "B": (B, "B G N"), "C": (C, "B G N"),
        "D": (D, "H"), "dt_bias": (dt_bias, "H"),
    }  # fmt: skip
    check_shapes("ssd_step", sizes, expected)
    check_groups("ssd_step", sizes["H"], sizes["G"])
    module = _module(backend, "ssd", state, x, dt, A, B, C, D, dt_bias)
    return module.ssd_step(state, x, dt, A, B, C, D, dt_bias, dt_softplus)


def causal_conv1d_step(
    state: Float[Tensor, "B J E"],
    x: Float[Tensor, "B E"],
    weight: Float[Tensor, "E K"],
    bias: Float[Tensor, " E"] | None = None,
    *,
    activation: str | None = None,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B E"], Float[Tensor, "B J E"]]:
    """One token of `causal_conv1d`.

    Args:
        state: the J = K − 1 inputs before the token, oldest first. The others as in `causal_conv1d`.

    Returns:
        The output in x's dtype, and the new state; `state` is left as it was.

    Raises:
        InputError: a tensor's shape does not fit the others.
        BackendError: the requested backend cannot run here.
    """
    check_rank("causal_conv1d_step", "state", state, "B J E")
    check_activation("causal_conv1d_step", activation)
    sizes = {**dict(zip("BJE", state.shape, strict=True)), "K": state.shape[1] + 1}
    expected = {"x": (x, "B E"), "weight": (weight, "E K"), "bias": (bias, "E")}
    check_shapes("causal_conv1d_step", sizes, expected)
    module = _module(backend, "causal_conv1d", state, x, weight, bias)
    return module.causal_conv1d_step(state, x, weight, bias, activation)


def linear(
    x: Float[Tensor, "*rows X"],
    weight: Float[Tensor, "Y X"],
    bias: Float[Tensor, " Y"] | None = None,
    *,
    backend: str = "auto",
) -> Float[Tensor, "*rows Y"]:
    """A matrix product, x Wᵀ + b, as `torch.nn.functional.linear`.

    On a CPU, few rows have a kernel of the `cpu` backend; and where torch only emulates half precision, as with AVX2,
    what is in it is multiplied in fp32 and rounded once. Both agree with torch's product to rounding: sums are of fp32
    in another order.

    Args:
        x: rows; the last axis is multiplied.
        weight: what reading takes the time of where there are few rows.
        bias: added.
        backend: any but "auto" and "cpu" is torch's product. That is it also on another device, where a gradient is
            wanted or a compiler or a trace follows, under autocast, and for what torch multiplies faster.

    Raises:
        InputError: the last axis of x is not that of the weight, or there is no backend of that name.
    """
    if x.ndim < 1 or x.shape[-1:] != weight.shape[1:]:
        raise InputError(
            f"linear: x must have {weight.shape[-1]} numbers a row, as the weight has, "
            f"but its shape is {tuple(x.shape)}."
        )
    require_backend(backend)
    given = [each for each in (x, weight, bias) if each is not None]
    if (
        backend not in ("auto", "cpu")
        or x.device.type != "cpu"
        or any((each.device, each.dtype) != (x.device, x.dtype) for each in given)
        # As a shard of FSDP2 is, and what stands for a tensor.
        or any(type(each) not in (Tensor, Parameter) for each in given)
        or wants_gradient(*given)
        or torch.is_autocast_enabled("cpu")
        or is_watched()
    ):
        return functional.linear(x, weight, bias)
    emulated = x.dtype in (torch.bfloat16, torch.float16) and _emulates_halves()
    if _is_faster(x, weight, emulated) and runs_on_numba(x.device, backend):
        cpu = backend_module("cpu")
        if x.numel() <= cpu.MOST_ROWS * x.shape[-1]:
            return cpu.linear(x, weight, bias)
    if emulated and x.numel() > _WIDENED_FROM * x.shape[-1]:
        return _widened(x, weight, bias)
    return functional.linear(x, weight, bias)


def _is_faster(x: Tensor, weight: Tensor, emulated: bool) -> bool:
    """Whether the kernel of few rows takes these, and takes less time for them than torch.

    Args:
        x, weight: on the CPU, of one dtype.
        emulated: whether torch only emulates that dtype.
    """
    most = _FEW_ROWS.get(x.dtype, 0)
    if emulated and most:
        most = _FEW_ROWS[torch.float32]
    return 0 < x.numel() <= most * x.shape[-1] and weight.numel() >= _FROM_MEMORY and weight.is_contiguous()


@cache
def _emulates_halves() -> bool:
    """Whether torch lacks fast products in half precision here: with AVX2 they take several times those in fp32."""
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


def _widened(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The product in fp32, rounded once, a block of the weights after the other: no copy of all of them."""
    wide, out = x.float(), x.new_empty(*x.shape[:-1], weight.shape[0])
    rows = max(1, _BLOCK // max(1, weight.shape[1]))
    for first in range(0, weight.shape[0], rows):
        part = slice(first, first + rows)
        added = None if bias is None else bias[part].float()
        out[..., part] = functional.linear(wide, weight[part].float(), added)
    return out


def _module(requested: str, kernel: str, *tensors: Tensor | None) -> ModuleType:
    """What computes a step of these tensors, the state first and the inputs second."""
    if wants_gradient(*tensors):
        return reference
    inputs = tensors[1]
    assert inputs is not None
    name = resolve_backend(inputs.device, inputs.dtype, requested, kernel=kernel)
    return backend_module(name) if name in _WITH_STEPS[kernel] else reference
