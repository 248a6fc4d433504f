"""What mamba_ssm computes on a CPU: its two references in plain torch, written anew by their formulas.

Its wheels are built for CUDA, so its own text is not called. `selective_scan_ref` is Algorithm 2 of Gu and Dao (2023):
decays and inflows of all tokens at once, channels first, then a loop over tokens. `ssd_minimal_discrete` is Listing 1
of Dao and Gu (2024): four blocks of matrix products over chunks of 64 tokens.
"""

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

CHUNK = 64
"""Tokens a chunk, as mamba_ssm tests it."""


def selective_scan_ref(
    u: Float[Tensor, "B L E"],
    delta: Float[Tensor, "B L E"],
    A: Float[Tensor, "E N"],
    B: Float[Tensor, "B L N"],
    C: Float[Tensor, "B L N"],
    D: Float[Tensor, " E"],
    *,
    z: Float[Tensor, "B L E"],
    delta_bias: Float[Tensor, " E"],
    **_: object,
) -> tuple[Float[Tensor, "B L E"], Float[Tensor, "B E N"]]:
    """As `emma_viz.kernels.selective_scan` with softplus and from a state of zeros, which a layer's pass asks for."""
    x, step, gate = (each.float().transpose(1, 2) for each in (u, delta, z))
    write, read = B.float().transpose(1, 2), C.float().transpose(1, 2)
    step = functional.softplus(step + delta_bias[:, None])
    decays = torch.exp(torch.einsum("bel,en->beln", step, A))
    inflows = torch.einsum("bel,bnl,bel->beln", step, write, x)
    state = x.new_zeros(x.shape[0], x.shape[1], A.shape[1])
    outputs = []
    for t in range(x.shape[2]):
        state = decays[:, :, t] * state + inflows[:, :, t]
        outputs.append(torch.einsum("ben,bn->be", state, read[:, :, t]))
    y = (torch.stack(outputs, dim=2) + x * D[:, None]) * functional.silu(gate)
    return y.transpose(1, 2).to(u.dtype), state


def ssd_minimal_discrete(
    x: Float[Tensor, "B L H P"],
    dt: Float[Tensor, "B L H"],
    A: Float[Tensor, " H"],
    B: Float[Tensor, "B L G N"],
    C: Float[Tensor, "B L G N"],
    D: Float[Tensor, " H"],
    *,
    dt_bias: Float[Tensor, " H"],
    **_: object,
) -> tuple[Float[Tensor, "B L H P"], Float[Tensor, "B H P N"]]:
    """As `emma_viz.kernels.ssd` with softplus and from a state of zeros, which a layer's pass asks for."""
    length, heads = x.shape[1], x.shape[2]
    step = functional.softplus(dt.float() + dt_bias)
    write, read = (
        repeat(each.float(), "B L G N -> B L (G h) N", h=heads // each.shape[2]) for each in (B, C)
    )
    # Tokens that fill the last chunk add nothing and do not decay.
    behind = -length % CHUNK
    inflow, write, read, decay = (
        rearrange(
            functional.pad(each, (*[0] * (2 * (each.ndim - 2)), 0, behind)),
            "B (c l) ... -> B c l ...",
            l=CHUNK,
        )
        for each in (x.float() * step[..., None], write, read, step * A)
    )
    decay = rearrange(decay, "B c l H -> B H c l")
    sums = decay.cumsum(dim=-1)
    inside = torch.exp(_segment_sums(decay))
    diagonal = torch.einsum("bclhn,bcshn,bhcls,bcshp->bclhp", read, write, inside, inflow)
    left = torch.exp(sums[..., -1:] - sums)
    states = torch.einsum("bclhn,bhcl,bclhp->bchpn", write, left, inflow)
    states = torch.cat([torch.zeros_like(states[:, :1]), states], dim=1)
    between = torch.exp(_segment_sums(functional.pad(sums[..., -1], (1, 0))))
    states = torch.einsum("bhzc,bchpn->bzhpn", between, states)
    states, final = states[:, :-1], states[:, -1]
    carried = torch.einsum("bclhn,bchpn,bhcl->bclhp", read, states, torch.exp(sums))
    y = rearrange(diagonal + carried, "B c l H P -> B (c l) H P")[:, :length]
    return (y + x.float() * D[:, None]).to(x.dtype), final


def _segment_sums(x: Float[Tensor, "*axes L"]) -> Float[Tensor, "*axes L L"]:
    """Σ of x over j+1 … i at (i, j), and −∞ where j is behind i; summed without a difference of long sums."""
    length = x.shape[-1]
    lower = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
    wide = repeat(x, "... i -> ... i j", j=length).masked_fill(~lower.tril(-1), 0.0)
    return wide.cumsum(dim=-2).masked_fill(~lower, -torch.inf)
