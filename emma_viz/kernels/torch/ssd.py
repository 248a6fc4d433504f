"""Mamba-2 SSD in plain torch: matrix products inside a chunk of tokens, a recurrence from chunk to chunk.

With cs the running sum of Δ A inside a chunk, a token i sees token j ≤ i through C_i·B_j exp(cs_i − cs_j), and the
state h before the chunk through exp(cs_i) C_i h (Dao and Gu 2024, section 6). Tensors stay token-major, and
C·Bᵀ is formed once for all heads of a group. Small chunks are taken several at once: what is inside them are the same
products with a larger batch, and only the states pass from one to the next. The gradient is written by hand: it redoes
chunks from the states before them, so that nothing of size L·Q is kept.
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

_AT_ONCE = 2**18
"""Numbers of the largest tensor (`chunks G J Q Q`) when several chunks are taken at once: a megabyte stays in cache."""

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
        groups, (length, heads, size) = B.shape[2], v.shape[1:]
        y = torch.empty_like(v)
        state, kept = _states_in(initial, groups), []
        v5, a4, y5 = (rearrange(t, "B L (G J) ... -> B L G J ...", G=groups) for t in (v, log_decay, y))
        for part, count in _parts(len(v), length, heads):
            v_, a_, B_, C_ = (_by_chunk(t[:, part], count) for t in (v5, a4, B, C))
            cs = _running_sum(a_)
            mixing, _ = _mixing(cs, B_, C_)
            left = _power(cs[:, -1:] - cs, v.dtype)
            inflow = rearrange(v_ * left[..., None], "K Q G J P -> K Q G (J P)")
            gained = torch.einsum("bqgn,bqge->bgne", B_, inflow)
            passing = _widen(_power(cs[:, -1], v.dtype), size)
            before, state = _passed_on(state, passing, gained, count)
            kept.append(before)
            seen = _from_state(C_, before, cs, size)
            y5[:, part] = _in_line(seen + torch.einsum("bgjqs,bsgjp->bqgjp", mixing, v_), count)
        ctx.save_for_backward(v, log_decay, B, C, *kept)
        return y, _states_out(state, size)

    @staticmethod
    @once_differentiable
    def backward(ctx, gy, g_final):
        v, log_decay, B, C, *kept = ctx.saved_tensors
        groups, (length, heads, size) = B.shape[2], v.shape[1:]
        gv, ga, gB, gC = (torch.empty_like(t) for t in (v, log_decay, B, C))
        v5, a4, gy5, gv5, ga4 = (
            rearrange(t, "B L (G J) ... -> B L G J ...", G=groups) for t in (v, log_decay, gy, gv, ga)
        )
        g_state = _states_in(g_final, groups)
        parts = _parts(len(v), length, heads)
        for (part, count), before in reversed(list(zip(parts, kept, strict=True))):
            v_, a_, B_, C_, gy_ = (_by_chunk(t[:, part], count) for t in (v5, a4, B, C, gy5))
            chunks = (v_, _running_sum(a_), B_, C_, before)
            *gradients, g_state = _backward_chunks(*chunks, gy_, g_state, count)
            gv5[:, part], g_cs, gB[:, part], gC[:, part] = (_in_line(g, count) for g in gradients)
            # The gradient of a running sum is the running sum from the other end.
            ends = _by_chunk(g_cs, count)
            ga4[:, part] = _in_line(ends.flip(1).cumsum(dim=1).flip(1).div_(_LOG2E), count)
        return gv, ga, gB, gC, _states_out(g_state, size)


def _backward_chunks(v, cs, B, C, state, gy, g_final, count):
    """Gradients of some chunks: (v, cs, B, C, state before the first), from those of their outputs and of the state
    after the last."""
    size = v.shape[-1]
    whole = _power(cs[:, -1], v.dtype)
    seen = gy * _power(cs, v.dtype)[..., None]
    flat_seen = rearrange(seen, "B Q G J P -> B Q G (J P)")
    passing, returned = _widen(whole, size), torch.einsum("bqgn,bqge->bgne", C, flat_seen)
    g_after, g_before = _passed_on(g_final, passing, returned, count, backwards=True)
    mixing, decay = _mixing(cs, B, C)
    # Inside a chunk.
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
    # What the outputs saw of the state before their chunk.
    gC += torch.einsum("bqge,bgne->bqgn", flat_seen, state)
    g_cs += torch.einsum("bqgjp,bqgjp->bqgj", gy, _from_state(C, state, cs, size))
    # What a chunk left in the state after it.
    left = _power(cs[:, -1:] - cs, v.dtype)
    back = torch.einsum("bqgn,bgne->bqge", B, g_after)
    back = rearrange(back, "B Q G (J P) -> B Q G J P", P=size) * left[..., None]
    gv += back
    inflow = rearrange(v * left[..., None], "B Q G J P -> B Q G (J P)")
    gB += torch.einsum("bqge,bgne->bqgn", inflow, g_after)
    leaving = (back * v).sum(dim=-1)
    g_cs -= leaving
    through = rearrange(passing * g_after * state, "B G N (J P) -> B G J (N P)", P=size).sum(dim=-1)
    g_cs[:, -1] += leaving.sum(dim=1) + through
    return gv, g_cs, gB, gC, g_before


def _parts(batch: int, length: int, heads: int) -> list[tuple[slice, int]]:
    """The tokens of whole chunks that are taken at once, and how many chunks these are; the last may be short."""
    most = max(1, _AT_ONCE // (max(1, batch * heads) * _CHUNK**2))
    whole = length // _CHUNK
    found = []
    for first in range(0, whole, most):
        count = min(most, whole - first)
        found.append((slice(first * _CHUNK, (first + count) * _CHUNK), count))
    if length % _CHUNK:
        found.append((slice(whole * _CHUNK, length), 1))
    return found


def _by_chunk(tokens, count):
    """`B (K Q) …` as `(B K) Q …`."""
    return tokens if count == 1 else rearrange(tokens, "B (K Q) ... -> (B K) Q ...", K=count)


def _in_line(chunks, count):
    """`(B K) Q …` as `B (K Q) …`."""
    return chunks if count == 1 else rearrange(chunks, "(B K) Q ... -> B (K Q) ...", K=count)


def _passed_on(state, passing, gained, count, *, backwards=False):
    """The states that chunks begin with, `(B K) …`, and the one after them; backwards: from the last to the first."""
    if count == 1:
        return state, state * passing + gained
    passing, gained = (t.unflatten(0, (-1, count)) for t in (passing, gained))
    begun = gained.new_empty(gained.shape)
    for k in reversed(range(count)) if backwards else range(count):
        begun[:, k] = state
        state = torch.addcmul(gained[:, k], state, passing[:, k])
    return begun.flatten(0, 1), state


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
