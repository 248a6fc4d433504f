"""How far what one token holds travels to another: the size of the derivative of its last state, position by position.

‖∂h_i/∂e_j‖, of the residual stream's last state at position i by the embedding at position j, in Frobenius' norm, by
Hutchinson's estimate: the mean over random directions v of ‖∂⟨v, h_i⟩/∂e_j‖², one backward pass for all j. With the
routing held it is what content alone can do; what is beyond that acts through step sizes, gates and norms. Beside it
stands what the states' decay alone would let through.
"""

import math

import torch
from einops import reduce, repeat
from jaxtyping import Float
from torch import Tensor

from emma_viz.errors import InputError
from emma_viz.evidence.mixers.frozen import held_stream
from emma_viz.evidence.mixers.routing import Mixer, wide
from emma_viz.models import Mamba1Mixer, Mamba2Mixer, MambaLM
from emma_viz.models.mixers.grouped import GroupedMamba


def influence(
    llm: MambaLM,
    embeddings: Float[Tensor, "1 L D"],
    position: int,
    *,
    draws: int = 4,
    held: bool = False,
    seed: int = 0,
) -> Float[Tensor, " L"]:
    """‖∂h_i/∂e_j‖ of one position i by every position j; 0 behind it.

    Args:
        llm: a loaded model's language model.
        embeddings: of image and text, one sample.
        position: i, from 0.
        draws: random directions; the relative error of the square falls as 1/√(draws · rank).
        held: hold the routing as it is.
        seed: of the directions.

    Raises:
        InputError: the position is not in the sequence, or there is no direction.
    """
    length = embeddings.shape[1]
    if not 0 <= position < length or draws < 1:
        raise InputError(
            f"expected a position from 0 to {length - 1} and a direction at least, got {position} and {draws}."
        )
    draw = torch.Generator().manual_seed(seed)
    squares = torch.zeros(length, dtype=torch.float64)
    with torch.enable_grad():
        start = wide(embeddings[:, : position + 1]).detach().clone().requires_grad_()
        last = (held_stream(llm, start) if held else _stream(llm, start))[0, -1]
        for _ in range(draws):
            direction = torch.randn(len(last), generator=draw).to(last)
            (slope,) = torch.autograd.grad((last * direction).sum(), start, retain_graph=True)
            squares[: position + 1] += slope[0].double().square().sum(dim=-1).cpu()
    return (squares / draws).sqrt()


def _stream(llm: MambaLM, embeddings: Float[Tensor, "1 L D"]) -> Float[Tensor, "1 L D"]:
    """The residual stream after the last block, before the final norm."""
    hidden, residual = embeddings.to(llm.backbone.embedding.weight.dtype), None
    for block in llm.backbone.layers:
        hidden, residual = block(hidden, residual)
    return hidden if residual is None else hidden + residual


@torch.no_grad()
def decay_back(
    mixer: Mixer, delta: Float[Tensor, "L E"] | Float[Tensor, "L H"], position: int
) -> Float[Tensor, " L"]:
    """The mean over channels and states of exp(A Σ_{k=j+1..i} Δ_k): what is left at i of a write at j; 0 behind.

    Args:
        mixer: of a loaded model's block.
        delta: its step sizes after softplus (the site `delta`), of one sample.
        position: i.
    """
    decay = -torch.exp(wide(mixer.A_log)).to(delta.device)
    # Counted from i backwards, so that nothing cancels.
    steps = wide(delta[: position + 1]).flip(0)
    between = steps.cumsum(0) - steps
    rates = decay if decay.ndim == 2 else decay[:, None]
    found = torch.zeros(len(delta), dtype=torch.float64)
    for number, passed in enumerate(between):
        found[position - number] = torch.exp(rates * passed[:, None]).double().mean().cpu()
    return found


@torch.no_grad()
def half_life(mixer: Mixer, delta: Float[Tensor, "L E"] | Float[Tensor, "L H"]) -> Float[Tensor, " E"]:
    """ln 2 / (|A| Δ̄) of each channel (head in Mamba-2), tokens: the mean over positions for Δ̄, over states for |A|."""
    rates = torch.exp(wide(mixer.A_log)).to(delta.device)
    rates = rates.mean(dim=1) if rates.ndim == 2 else rates
    return math.log(2) / (rates * wide(delta).mean(dim=0)).clamp(min=1e-30).cpu()


@torch.no_grad()
def written(
    mixer: Mixer | GroupedMamba,
    delta: Float[Tensor, "T E"] | Float[Tensor, "T H"],
    conv: Float[Tensor, "T W"],
    b: Float[Tensor, "T n"],
) -> Float[Tensor, " T"]:
    """‖Δu ⊗ B‖ (Frobenius): the size of what each token writes to the state.

    Args:
        mixer: of a loaded model's block (`mixer_at`).
        delta: its step sizes after softplus (the site `delta`).
        conv: what enters the scan (the site `conv`).
        b: input weights (the site `B`); those of groups side by side.
    """
    if isinstance(mixer, Mamba1Mixer):
        return ((delta.double() * conv.double()).norm(dim=-1) * b.double().norm(dim=-1)).cpu()
    return _by_head(mixer, delta.double(), conv.double(), b.double()).sum(dim=-1).sqrt().cpu()


def _by_head(
    mixer: Mamba2Mixer | GroupedMamba,
    delta: Float[Tensor, "T H"],
    conv: Float[Tensor, "T W"],
    b: Float[Tensor, "T n"],
) -> Float[Tensor, "T H"]:
    """‖Δu ⊗ B‖² of each head; heads may share B, and in a grouped mixer u as well."""
    heads = delta.shape[-1]
    own, groups = heads, 1
    if isinstance(mixer, GroupedMamba):
        own = groups = mixer.kv_heads
    else:
        groups = mixer.config.ngroups
    values = reduce(conv.square(), "T (K P) -> T K", "sum", K=own)
    weights = reduce(b.square(), "T (G N) -> T G", "sum", G=groups)
    values = repeat(values, "T K -> T (K s)", s=heads // own)
    return values * delta.square() * repeat(weights, "T G -> T (G s)", s=heads // groups)


@torch.no_grad()
def retained(
    mixer: Mixer | GroupedMamba,
    delta: Float[Tensor, "L E"] | Float[Tensor, "L H"],
    conv: Float[Tensor, "T W"],
    b: Float[Tensor, "T n"],
) -> Float[Tensor, " T"]:
    """‖exp(A ΣΔ) ∘ (Δu ⊗ B)‖ (Frobenius): what the state holds, behind the last position, of each early token's write.

    Args:
        mixer: of a loaded model's block (`mixer_at`).
        delta: its step sizes after softplus (the site `delta`), of all positions.
        conv: what enters the scan (the site `conv`), of the first T.
        b: input weights (the site `B`), of the first T; those of groups side by side.
    """
    rates = mixer.A_log_bias if isinstance(mixer, GroupedMamba) else mixer.A_log
    tokens, decay = len(conv), -torch.exp(wide(rates)).to(delta.device).double()
    # Counted from behind, so that nothing cancels.
    later = delta.double().flip(0).cumsum(0).flip(0)
    after = torch.cat([later[1:], torch.zeros_like(later[:1])])[:tokens]
    steps, inputs, weights = delta[:tokens].double(), conv.double(), b.double().square()
    if isinstance(mixer, Mamba1Mixer):
        size = (steps * inputs).square()
        found = [
            torch.einsum("e,en,n->", size[j], torch.exp(2 * decay * after[j, :, None]), weights[j])
            for j in range(tokens)
        ]
        return torch.stack(found).sqrt().cpu()
    whole = _by_head(mixer, steps, inputs, b.double()) * torch.exp(2 * decay * after)
    return whole.sum(dim=-1).sqrt().cpu()
