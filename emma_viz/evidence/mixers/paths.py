"""Paths inside one mixer, from tokens to those that read them: cut for the readers alone, or the tokens taken out.

A token reaches a later one through the state, and through the convolution, which carries it to the d_conv − 1 behind
it, whose writes then hold it too. All functions say what a mixer's output becomes; the rest of the model goes on from
there.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from emma_viz.evidence.mixers.routing import (
    Mixer,
    carried,
    convolution_bias,
    convolved,
    mixed,
    mixed_out,
    output_scale,
    project_in,
    routing_of,
    wide,
)


@torch.no_grad()
def without_edge(
    mixer: Mixer, normed: Float[Tensor, "B L D"], tokens: Bool[Tensor, "B L"], *, leak: bool = False
) -> Float[Tensor, "B L D"]:
    """What each position puts out when it reads a state, and a convolution, that the tokens gave nothing to.

    The readers take their rows of this and all others those of the plain output. In the second state the tokens write
    nothing (B := 0) and enter nobody's convolution (x := 0); step sizes, B and C of the others, and the readers' gates,
    stay as they were.

    Args:
        mixer: of a loaded model's block.
        normed: what entered it, from the first token on.
        tokens: whose content is cut.
        leak: leave the convolution as it is, and cut the state's path alone.
    """
    inputs = project_in(mixer, normed)
    c = convolved(mixer, inputs.x) + convolution_bias(mixer)
    held = routing_of(mixer, c, inputs.dt)
    if not leak:
        given = inputs.x.masked_fill(tokens[..., None], 0)
        c = convolved(mixer, given) + convolution_bias(mixer)
    gone = rearrange(tokens, "B L -> B L" + " 1" * (held.B.ndim - 2))
    u = functional.silu(c[..., : mixer.config.d_inner])
    return mixed_out(mixer, carried(mixer, u, replace(held, B=held.B.masked_fill(gone, 0))), inputs.z)


@torch.no_grad()
def taken(
    mixer: Mixer, normed: Float[Tensor, "B L D"], tokens: Bool[Tensor, "B L"]
) -> Float[Tensor, "B L D"]:
    """What each position took from the tokens, exactly: through state, convolution and skip, the whole routing held.

    The sum of the tokens' vectors in the rows of `emma_viz.evidence.mixers.implicit_attention`, for all positions at
    once.

    Args:
        mixer: of either kind.
        normed: what the mixer is given, (B, L, D).
        tokens: true for the tokens that were taken from, (B, L).
    """
    inner = mixer.config.d_inner
    inputs = project_in(mixer, normed)
    c = convolved(mixer, inputs.x) + convolution_bias(mixer)
    held = routing_of(mixer, c, inputs.dt)
    scale = output_scale(
        mixer, carried(mixer, held.secant * c[..., :inner], held) * functional.silu(inputs.z)
    )
    alone = convolved(mixer, inputs.x.masked_fill(~tokens[..., None], 0))[..., :inner]
    gated = carried(mixer, held.secant * alone, held) * functional.silu(inputs.z)
    return functional.linear(gated if scale is None else gated * scale, wide(mixer.out_proj.weight))


@torch.no_grad()
def without_tokens(
    mixer: Mixer, normed: Float[Tensor, "B L D"], tokens: Bool[Tensor, "B L"]
) -> Float[Tensor, "B L D"]:
    """The mixer's output when the tokens are not in its sequence, and those beside them meet; they get nothing.

    As many tokens in each sample.

    Args:
        mixer: of either kind.
        normed: what the mixer is given, (B, L, D).
        tokens: true for the tokens that are left out, (B, L).
    """
    out = torch.zeros_like(wide(normed))
    if not bool(tokens.all()):
        kept = rearrange(normed[~tokens], "(B l) D -> B l D", B=len(normed))
        out[~tokens] = rearrange(mixed(mixer, kept), "B l D -> (B l) D")
    return out


@torch.no_grad()
def leak(mixer: Mixer, normed: Float[Tensor, "L D"], tokens: Sequence[int], readers: Sequence[int]) -> float:
    """Of what cutting an edge changes, the share that stays when the state's path alone is cut; NaN where nothing does.

    Measured along the whole change, over all readers.

    Args:
        mixer: of either kind.
        normed: what the mixer is given, (L, D), of one sample.
        tokens: positions of the edge's beginning.
        readers: positions of its end.
    """
    gone = torch.zeros(1, len(normed), dtype=torch.bool, device=normed.device)
    gone[0, list(tokens)] = True
    plain, without, leaking = (
        found[0, list(readers)]
        for found in (
            mixed(mixer, normed[None]),
            without_edge(mixer, normed[None], gone),
            without_edge(mixer, normed[None], gone, leak=True),
        )
    )
    size = float((plain - without).square().sum())
    return 1 - float(((plain - without) * (plain - leaking)).sum()) / size if size else float("nan")
