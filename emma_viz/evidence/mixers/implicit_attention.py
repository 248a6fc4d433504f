"""Implicit attention: what one position of a mixer's output took from every position before it, exactly.

A mixer with its routing held is a sum over positions (Ali et al. 2024 for the scan alone). Here through convolution,
skip, gate and Mamba-2's norm as well, biases apart:

    mixer_out_i = Σ_m W_o (α̃[i, m] ∘ x_m) + W_o β_i

x_m is what `in_proj` carries into the convolution at position m, and β_i what the convolution's bias contributes. Rows
come from the scan run backwards from i, so that a row costs O(L·E·N) time and no matrix over pairs of positions is
built.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange, reduce, repeat
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from emma_viz.errors import InputError
from emma_viz.evidence.mixers.routing import (
    Mixer,
    Routing,
    convolution_bias,
    convolved,
    output_scale,
    project_in,
    routing_of,
    wide,
)
from emma_viz.kernels import selective_scan
from emma_viz.models import Mamba1Mixer


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """What some positions of one mixer took from all positions; a row is 0 behind its own position."""

    weights: Float[Tensor, "Q L E"]
    """α̃: channel by channel, through convolution, scan, skip, gate and norm."""
    bias: Float[Tensor, "Q E"]
    """β: what the convolution's bias contributes to the same channels."""
    x: Float[Tensor, "L E"]
    """What the positions carry into the convolution."""
    out: Float[Tensor, "D E"]
    """The mixer's output matrix."""

    def vectors(self) -> Float[Tensor, "Q L D"]:
        """W_o (α̃[i, m] ∘ x_m): with `bias_vectors` they sum to the mixer's output. Q·L·D numbers."""
        return functional.linear(self.weights * self.x, self.out)

    def bias_vectors(self) -> Float[Tensor, "Q D"]:
        """W_o β_i."""
        return functional.linear(self.bias, self.out)

    def norms(self) -> Float[Tensor, "Q L"]:
        """Length of each token's vector: how much came from it, whatever it says."""
        return torch.stack([functional.linear(row * self.x, self.out).norm(dim=-1) for row in self.weights])

    def along(self, direction: Float[Tensor, " D"]) -> tuple[Float[Tensor, "Q L"], Float[Tensor, " Q"]]:
        """What each token, and the biases, put into the output along a direction, such as a word's unembedding."""
        read = wide(direction) @ self.out
        return torch.einsum("qle,le,e->ql", self.weights, self.x, read), self.bias @ read

    def mean_size(self) -> Float[Tensor, "Q L"]:
        """Mean over channels of |α̃|, which says nothing of what is carried; as published maps show it."""
        return self.weights.abs().mean(dim=-1)

    def bias_share(self) -> Float[Tensor, " Q"]:
        """Length of the bias's vector, over the sum of it and of the tokens' lengths."""
        size = self.bias_vectors().norm(dim=-1)
        return size / (size + self.norms().sum(dim=-1))


@torch.no_grad()
def attention_rows(mixer: Mixer, normed: Float[Tensor, "L D"], positions: Sequence[int]) -> Rows:
    """The rows of some positions of one mixer.

    Args:
        mixer: of a loaded model's block.
        normed: what entered it (the site `mixer_in`), of one sample, from the first token on.
        positions: which rows, from 0.

    Raises:
        InputError: a position is not in the sequence.
    """
    length = len(normed)
    if not positions or not all(0 <= position < length for position in positions):
        raise InputError(f"expected positions from 0 to {length - 1}, got {list(positions)}.")
    inputs = project_in(mixer, normed[None], gates_at=positions)
    constant = convolution_bias(mixer)
    c = convolved(mixer, inputs.x) + constant
    held = routing_of(mixer, c, inputs.dt)
    inner = mixer.config.d_inner
    x, c, constant = inputs.x[0, :, :inner], c[..., :inner], constant[:inner]
    through = scan_rows(mixer, held, positions)
    through *= held.secant[0]
    gate = functional.silu(inputs.z)
    # The rows sum to what the scan gives, so that Mamba-2's norm needs no scan of its own.
    scale = output_scale(mixer, torch.einsum("qle,le->qe", through, c[0])[None] * gate)
    through *= rearrange(gate if scale is None else gate * scale, "1 Q E -> Q 1 E")
    bias = torch.einsum("qle,e->qe", through, constant)
    kernel = rearrange(wide(mixer.conv1d.weight)[:inner], "E 1 K -> K E")
    weights = torch.zeros_like(through)
    for lag in range(len(kernel)):
        # What stands at position m enters the convolution's output at m + lag by the tap K − 1 − lag.
        weights[:, : length - lag] += through[:, lag:] * kernel[len(kernel) - 1 - lag]
    return Rows(weights=weights, bias=bias, x=x, out=wide(mixer.out_proj.weight))


def scan_rows(mixer: Mixer, held: Routing, positions: Sequence[int]) -> Float[Tensor, "Q L E"]:
    """What the scan alone, its skip included, takes from each position: y_i = Σ_j row[i, j] ∘ u_j. One sample.

    Mamba-1: α_e[i, j] = Δ_j[e] Σ_n C_i[n] B_j[n] exp(A[e, n] Σ_{k=j+1..i} Δ_k[e]), by the scan run backwards: a state
    that begins as C_i, decays by what lies between, and is read by B_j. Mamba-2: the same, one number a head.

    Args:
        mixer: of either kind.
        held: the routing of one sample.
        positions: Q of them: the i of the rows.
    """
    rows = _rows1 if isinstance(mixer, Mamba1Mixer) else _rows2
    return torch.stack([rows(mixer, held, position) for position in positions])


def _rows1(mixer: Mixer, held: Routing, position: int) -> Float[Tensor, "L E"]:
    end = position + 1
    back = slice(None, end)
    delta, B = held.delta[:, back].flip(1), held.B[:, back].flip(1)
    # Between C_i and the read at the row's own position nothing decays; then each step decays by the Δ behind it.
    steps = torch.cat([torch.zeros_like(delta[:, :1]), delta[:, :-1]], dim=1)
    start = repeat(held.C[:, position], "1 N -> 1 E N", E=delta.shape[-1])
    zeros = torch.zeros_like(delta)
    read, _ = selective_scan(
        zeros, steps, held.decay, torch.zeros_like(B), B, initial_state=start, backend=mixer.backend
    )
    row = torch.zeros_like(held.delta[0])
    row[:end] = (read * delta)[0].flip(0)
    row[position] += held.skip
    return row


def _rows2(mixer: Mixer, held: Routing, position: int) -> Float[Tensor, "L E"]:
    end, heads = position + 1, held.delta.shape[-1]
    delta = held.delta[0, :end]
    # The sum over k = j+1 … i, counted from the row's own position, so that nothing cancels.
    between = (delta.flip(0).cumsum(0) - delta.flip(0)).flip(0)
    meet = torch.einsum("gn,lgn->lg", held.C[0, position], held.B[0, :end])
    meet = repeat(meet, "l g -> l (g h)", h=heads // meet.shape[-1])
    row = torch.zeros_like(held.delta[0])
    row[:end] = delta * meet * torch.exp(held.decay * between)
    row[position] += held.skip
    return repeat(row, "L H -> L (H P)", P=mixer.config.headdim)


def share_on(rows: Float[Tensor, "Q L"], first: int) -> Float[Tensor, " Q"]:
    """Share of each row's absolute values that lies on the first positions, such as those of the image."""
    size = rows.abs()
    return reduce(size[:, :first], "q l -> q", "sum") / reduce(size, "q l -> q", "sum")
