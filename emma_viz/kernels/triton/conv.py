"""Causal depthwise convolution in Triton: one kernel for the values and the inputs' gradient, one for the taps'."""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

_TOKENS, _CHANNELS = 32, 64
"""Sizes of the tile that one program computes."""


def causal_conv1d(
    x: Float[Tensor, "B L E"],
    weight: Float[Tensor, "E K"],
    bias: Float[Tensor, " E"] | None,
    initial_state: Float[Tensor, "B J E"] | None,
    activation: str | None,
) -> Float[Tensor, "B L E"]:
    """See `emma_viz.kernels.reference.causal_conv1d`."""
    source = x.float()
    if initial_state is not None:
        source = torch.cat([initial_state.float(), source], dim=1)
    y = _Convolution.apply(source, weight.float().T, x.shape[1])
    if bias is not None:
        y = y + bias.float()
    if activation == "silu":
        y = functional.silu(y)
    return y.to(x.dtype)


class _Convolution(torch.autograd.Function):
    """y_t = Σ_k w_k s_{t+k−offset} for the last `length` tokens of a source `B S E`; taps w are `K E`."""

    @staticmethod
    def forward(ctx, source, taps, length):
        source, taps = source.contiguous(), taps.contiguous()
        # What is missing in front of the source is zero.
        ctx.offset = taps.shape[0] - 1 - (source.shape[1] - length)
        ctx.save_for_backward(source, taps)
        return _correlate(source, taps, ctx.offset, length)

    @staticmethod
    @once_differentiable
    def backward(ctx, gy):
        source, taps = ctx.saved_tensors
        gy = gy.contiguous()
        count = taps.shape[0]
        g_source = _correlate(gy, taps.flip(0), count - 1 - ctx.offset, source.shape[1])
        batch, length, inner = gy.shape
        g_taps = gy.new_empty(batch, count, inner)
        with torch.cuda.device_of(gy):
            _taps_gradient[(count, triton.cdiv(inner, _CHANNELS), batch)](
                gy, source, g_taps, length, source.shape[1], inner, ctx.offset, TOKENS=_TOKENS, CHANNELS=_CHANNELS
            )  # fmt: skip
        return g_source, g_taps.sum(dim=0), None


def _correlate(source: Tensor, taps: Tensor, offset: int, length: int) -> Tensor:
    batch, available, inner = source.shape
    y = source.new_empty(batch, length, inner)
    with torch.cuda.device_of(source):
        _correlation[(triton.cdiv(length, _TOKENS), triton.cdiv(inner, _CHANNELS), batch)](
            source, taps, y, length, available, inner, offset,
            TAPS=taps.shape[0], TOKENS=_TOKENS, CHANNELS=_CHANNELS,
        )  # fmt: skip
    return y


@triton.jit
@no_type_check
def _correlation(
    source, taps, y, length, available, inner, offset,
    TAPS: tl.constexpr, TOKENS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    tokens = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    channels = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    sample = tl.program_id(2).to(tl.int64)
    inside = channels < inner
    total = tl.zeros((TOKENS, CHANNELS), tl.float32)
    for k in range(TAPS):
        rows = tokens + k - offset
        seen = ((rows >= 0) & (rows < available))[:, None] & inside[None, :]
        value = tl.load(
            source + (sample * available + rows[:, None]) * inner + channels[None, :], mask=seen, other=0.0
        )
        total += value * tl.load(taps + k * inner + channels, mask=inside, other=0.0)[None, :]
    kept = (tokens < length)[:, None] & inside[None, :]
    tl.store(y + (sample * length + tokens[:, None]) * inner + channels[None, :], total, mask=kept)


@triton.jit
@no_type_check
def _taps_gradient(
    gy, source, g_taps, length, available, inner, offset, TOKENS: tl.constexpr, CHANNELS: tl.constexpr
):
    k = tl.program_id(0)
    channels = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    sample = tl.program_id(2).to(tl.int64)
    inside = channels < inner
    total = tl.zeros((CHANNELS,), tl.float32)
    for start in range(0, length, TOKENS):
        tokens = start + tl.arange(0, TOKENS)
        rows = tokens + k - offset
        kept = (tokens < length)[:, None] & inside[None, :]
        seen = kept & ((rows >= 0) & (rows < available))[:, None]
        g = tl.load(
            gy + (sample * length + tokens[:, None]) * inner + channels[None, :], mask=kept, other=0.0
        )
        value = tl.load(
            source + (sample * available + rows[:, None]) * inner + channels[None, :], mask=seen, other=0.0
        )
        total += tl.sum(g * value, axis=0)
    tl.store(g_taps + (sample * tl.num_programs(0) + k) * inner + channels, total, mask=inside)
