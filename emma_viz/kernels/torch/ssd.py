"""Mamba-2 SSD in plain torch: matrix products inside a chunk of tokens, a recurrence from chunk to chunk.

With cs the running sum of Δ A inside a chunk, a token i sees token j ≤ i through C_i·B_j exp(cs_i − cs_j), and the
state h before the chunk through exp(cs_i) C_i h (Dao and Gu 2024, section 6). Tensors stay token-major, and
C·Bᵀ is formed once for all heads of a group. The gradient is written by hand: it redoes a chunk from the
state before it, so that nothing of size L·Q is kept.
"""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from emma_viz.kernels.reference import accumulation_dtype, step_sizes

_CHUNK = 64
"""Tokens a chunk: products inside grow with it, work on states shrinks."""

_LOG2E = math.log2(math.e)
"""Log decays are kept to the base 2: torch vectorises exp2 on the CPU; its exp is four times as slow."""

_LARGEST_EXPONENT = 100.0
"""Above the diagonal exponents may be positive; they must stay finite to be masked by a product with zero."""


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
    dtype = accumulation_dtype(x.dtype)
    u = x.to(dtype)
    step = step_sizes(dt, dt_bias, dt_softplus, dtype)
    if initial_state is None:
        initial_state = u.new_zeros(u.shape[0], u.shape[2], u.shape[3], B.shape[3])
    y, final = _ChunkedSSD.apply(
        u * step[..., None], step * (A.to(dtype) * _LOG2E), B.to(dtype), C.to(dtype), initial_state.to(dtype)
    )
    if D is not None:
        y = torch.addcmul(y, u, D.to(dtype)[:, None])
    return y.to(x.dtype), final


class _ChunkedSSD(torch.autograd.Function):
    """h_t = 2**a_t h_{t-1} + v_t ⊗ B_t and y_t = h_t C_t, for inflows v = Δ x and log decays a = Δ A to the base 2.

    Inside, states are `B G N (H/G P)`, inflows `B L G (H/G) P`, log decays `B L G (H/G)`.
    """

    @staticmethod
    def forward(ctx, v, log_decay, B, C, initial):
        groups, length = B.shape[2], v.shape[1]
        y = torch.empty_like(v)
        state, kept = _states_in(initial, groups), []
        v5, a4, y5 = (rearrange(t, "B L (G J) ... -> B L G J ...", G=groups) for t in (v, log_decay, y))
        for part in _chunks(length):
            kept.append(state)
            cs = _running_sum(a4[:, part])
            mixing, _ = _mixing(cs, B[:, part], C[:, part])
            inter = _from_state(C[:, part], state, cs, v.shape[3])
            y5[:, part] = inter + torch.einsum("bgjqs,bsgjp->bqgjp", mixing, v5[:, part])
            left = _power(cs[:, -1:] - cs, v.dtype)
            inflow = rearrange(v5[:, part] * left[..., None], "B Q G J P -> B Q G (J P)")
            state = state * _widen(_power(cs[:, -1], v.dtype), v.shape[3]) + torch.einsum(
                "bqgn,bqge->bgne", B[:, part], inflow
            )
        ctx.save_for_backward(v, log_decay, B, C, *kept)
        return y, _states_out(state, v.shape[3])

    @staticmethod
    @once_differentiable
    def backward(ctx, gy, g_final):
        v, log_decay, B, C, *kept = ctx.saved_tensors
        groups, size = B.shape[2], v.shape[3]
        gv, ga, gB, gC = (torch.empty_like(t) for t in (v, log_decay, B, C))
        v5, a4, gy5, gv5, ga4 = (
            rearrange(t, "B L (G J) ... -> B L G J ...", G=groups) for t in (v, log_decay, gy, gv, ga)
        )
        g_state = _states_in(g_final, groups)
        for part, state in reversed(list(zip(_chunks(v.shape[1]), kept, strict=True))):
            chunk = (v5[:, part], _running_sum(a4[:, part]), B[:, part], C[:, part], state)
            gv5[:, part], g_cs, gB[:, part], gC[:, part], g_state = _backward_chunk(
                *chunk, gy5[:, part], g_state
            )
            # The gradient of a running sum is the running sum from the other end.
            ga4[:, part] = g_cs.flip(1).cumsum(dim=1).flip(1).div_(_LOG2E)
        return gv, ga, gB, gC, _states_out(g_state, size)


def _backward_chunk(v, cs, B, C, state, gy, g_after):
    """Gradients of one chunk: (v, cs, B, C, state before it), from those of its outputs and of the state after it."""
    size = v.shape[-1]
    mixing, decay = _mixing(cs, B, C)
    # Inside the chunk.
    g_mixing = torch.einsum("bqgjp,bsgjp->bgjqs", gy, v)
    gv = torch.einsum("bgjqs,bqgjp->bsgjp", mixing, gy)
    exponent = mixing.mul_(g_mixing)
    g_cs = rearrange(
        exponent.sum(dim=-1, dtype=torch.float64) - exponent.sum(dim=-2, dtype=torch.float64),
        "B G J Q -> B Q G J",
    )
    g_products = torch.einsum("bgjqs,bgjqs->bgqs", g_mixing, decay).tril_()
    gC = torch.einsum("bgqs,bsgn->bqgn", g_products, B)
    gB = torch.einsum("bgqs,bqgn->bsgn", g_products, C)
    # What the outputs saw of the state before the chunk.
    seen = gy * _power(cs, v.dtype)[..., None]
    flat_seen = rearrange(seen, "B Q G J P -> B Q G (J P)")
    gC += torch.einsum("bqge,bgne->bqgn", flat_seen, state)
    g_cs += torch.einsum("bqgjp,bqgjp->bqgj", gy, _from_state(C, state, cs, size))
    # What the chunk left in the state after it.
    left = _power(cs[:, -1:] - cs, v.dtype)
    back = torch.einsum("bqgn,bgne->bqge", B, g_after)
    back = rearrange(back, "B Q G (J P) -> B Q G J P", P=size) * left[..., None]
    gv += back
    inflow = rearrange(v * left[..., None], "B Q G J P -> B Q G (J P)")
    gB += torch.einsum("bqge,bgne->bqgn", inflow, g_after)
    leaving = (back * v).sum(dim=-1)
    g_cs -= leaving
    whole = _power(cs[:, -1], v.dtype)
    passed = g_after * _widen(whole, size)
    g_cs[:, -1] += leaving.sum(dim=1) + rearrange(passed * state, "B G N (J P) -> B G J (N P)", P=size).sum(
        dim=-1
    )
    return gv, g_cs, gB, gC, passed + torch.einsum("bqgn,bqge->bgne", C, flat_seen)


def _chunks(length: int) -> list[slice]:
    return [slice(start, min(start + _CHUNK, length)) for start in range(0, length, _CHUNK)]


def _running_sum(log_decay):
    """In float64: differences of long sums are what counts, and in float32 they would keep but five digits."""
    return log_decay.double().cumsum(dim=1)


def _power(log_decay, dtype):
    """A decay, from its logarithm in float64."""
    return log_decay.to(dtype).exp2()


def _mixing(cs, B, C):
    """What each token of a chunk takes from each before it, and the decay part of it: both `B G J Q Q`."""
    products = torch.einsum("bqgn,bsgn->bgqs", C, B).tril_()
    sums = rearrange(cs, "B Q G J -> B G J Q")
    decay = (sums[..., :, None] - sums[..., None, :]).to(B.dtype).clamp_(max=_LARGEST_EXPONENT).exp2_()
    return decay * products[:, :, None], decay


def _from_state(C, state, cs, size):
    """The outputs `B Q G J P` that come from the state before the chunk."""
    y = torch.einsum("bqgn,bgne->bqge", C, state)
    return rearrange(y, "B Q G (J P) -> B Q G J P", P=size) * _power(cs, C.dtype)[..., None]


def _widen(factor, size):
    """A factor a head, `B G J`, against states `B G N (J P)`."""
    return factor.repeat_interleave(size, dim=-1)[:, :, None]


def _states_in(state, groups):
    return rearrange(state, "B (G J) P N -> B G N (J P)", G=groups).contiguous()


def _states_out(state, size):
    return rearrange(state, "B G N (J P) -> B (G J) P N", P=size).contiguous()
