"""Matrix products of linear layers, of any number of rows: torch's, but for what is faster on a CPU otherwise."""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter, functional

from emma_viz.errors import InputError
from emma_viz.kernels.backends import (
    backend_module,
    has_numba,
    is_watched,
    require_backend,
    wants_gradient,
)

_MOST_ROWS = {torch.float32: 16, torch.bfloat16: 2}
"""Dtype → the most rows that the `cpu` backend's product is faster with, as measured (decision 1)."""
_TOO_FEW_TO_WIDEN = 8
"""Rows in half precision that torch multiplies in no more time than it takes to widen the weights."""
_BLOCK = 1 << 22
"""Numbers of weights that are widened at once."""
_FROM_MEMORY = 1 << 18
"""Numbers of weights from which the kernel is taken; below, its call is too much of its time (decision 1)."""


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
        InputError: the last axis of x or that of the bias is not as the weight's, or there is no backend of that name.
    """
    require_backend(backend)
    given = [each for each in (x, weight, bias) if each is not None]
    # As a shard of FSDP2 is, and what stands for a tensor while torch.fx follows.
    if any(type(each) not in (Tensor, Parameter) for each in given):
        return functional.linear(x, weight, bias)
    if x.ndim < 1 or x.shape[-1:] != weight.shape[1:]:
        raise InputError(
            f"linear: x must have {weight.shape[-1]} numbers a row, as the weight has, "
            f"but its shape is {tuple(x.shape)}."
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise InputError(
            f"linear: bias must have {weight.shape[0]} numbers, as the weight has rows, "
            f"but its shape is {tuple(bias.shape)}."
        )
    if (
        backend not in ("auto", "cpu")
        or x.device.type != "cpu"
        or any((each.device, each.dtype) != (x.device, x.dtype) for each in given)
        or wants_gradient(*given)
        or torch.is_autocast_enabled("cpu")
        or is_watched()
    ):
        return functional.linear(x, weight, bias)
    emulated = x.dtype in (torch.bfloat16, torch.float16) and _emulates_halves()
    if _is_faster(x, weight, emulated) and has_numba():
        cpu = backend_module("cpu")
        if x.numel() <= cpu.MOST_ROWS * x.shape[-1]:
            return cpu.linear(x, weight, bias)
    if emulated and x.numel() > _TOO_FEW_TO_WIDEN * x.shape[-1]:
        return _widened(x, weight, bias)
    return functional.linear(x, weight, bias)


def _is_faster(x: Tensor, weight: Tensor, emulated: bool) -> bool:
    """Whether the kernel of few rows takes these, and takes less time for them than torch.

    Args:
        x, weight: on the CPU, of one dtype.
        emulated: whether torch only emulates that dtype.
    """
    most = _MOST_ROWS.get(x.dtype, 0)
    if emulated and most:
        most = _MOST_ROWS[torch.float32]
    return 0 < x.numel() <= most * x.shape[-1] and weight.numel() >= _FROM_MEMORY and weight.is_contiguous()


@cache
def _emulates_halves() -> bool:
    """Whether torch runs with AVX2 alone, where its products in half precision take several times those in fp32."""
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
