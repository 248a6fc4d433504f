"""Causal depthwise convolution in plain torch, channel-last: one shifted product a tap, no transposes."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from emma_viz.kernels.reference import accumulation_dtype


def causal_conv1d(
    x: Float[Tensor, "B L E"],
    weight: Float[Tensor, "E K"],
    bias: Float[Tensor, " E"] | None,
    initial_state: Float[Tensor, "B J E"] | None,
    activation: str | None,
) -> Float[Tensor, "B L E"]:
    """See `emma_viz.kernels.reference.causal_conv1d`."""
    dtype = accumulation_dtype(x.dtype)
    before, length = weight.shape[1] - 1, x.shape[1]
    if initial_state is None:
        padded = functional.pad(x.to(dtype), (0, 0, before, 0))
    else:
        padded = torch.cat([initial_state.to(dtype), x.to(dtype)], dim=1)
    taps = weight.to(dtype).T
    y = padded[:, before:] * taps[before]
    if bias is not None:
        y = y + bias.to(dtype)
    for k in range(before):
        y = torch.addcmul(y, padded[:, k : k + length], taps[k])
    if activation == "silu":
        y = functional.silu(y)
    return y.to(x.dtype)
