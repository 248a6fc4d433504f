"""Paths inside one mixer, from tokens to those that read them: cut for the readers alone, or the tokens taken out.

A token reaches a later one through the state, and through the convolution, which carries it to the d_conv − 1 behind
it, whose writes then hold it too. All three functions say what a mixer's output becomes; the rest of the model goes on
from there.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from emma_viz.evidence.implicit_attention import attention_rows
from emma_viz.evidence.routing import (
    Mixer,
    carried,
    convolution_bias,
    convolved,
    mixed,
    mixed_out,
    project_in,
    routing_of,
)


@torch.no_grad()
def without_edge(
    mixer: Mixer,
    normed: Float[Tensor, "L D"],
    tokens: Sequence[int],
    readers: Sequence[int],
    *,
    leak: bool = False,
) -> Float[Tensor, "Q D"]:
    """What the readers put out when they see neither what the tokens wrote to the state nor, through it, themselves.

    The readers read a second state, to which the tokens write nothing (B := 0) and for which they enter the
    convolution of nobody (x := 0). Step sizes, B and C of all others, and the readers' gates, stay as they were.

    Args:
        mixer: of a loaded model's block.
        normed: what entered it, of one sample, from the first token on.
        tokens: whose content is cut.
        readers: for whom.
        leak: leave the convolution as it is, and cut the state's path alone.
    """
    inner, tokens = mixer.config.d_inner, list(tokens)
    inputs = project_in(mixer, normed[None])
    c = convolved(mixer, inputs.x) + convolution_bias(mixer)
    held = routing_of(mixer, c, inputs.dt)
    if not leak:
        given = inputs.x.clone()
        given[:, tokens] = 0
        c = convolved(mixer, given) + convolution_bias(mixer)
    writes = held.B.clone()
    writes[:, tokens] = 0
    y = carried(mixer, functional.silu(c[..., :inner]), replace(held, B=writes))
    return mixed_out(mixer, y, inputs.z)[0, list(readers)]


def without_rows(
    mixer: Mixer, normed: Float[Tensor, "L D"], tokens: Sequence[int], readers: Sequence[int]
) -> Float[Tensor, "Q D"]:
    """What the readers put out without the exact sum of all that came from the tokens: state, convolution and skip.

    The whole routing is held, gates and Mamba-2's norm too; arguments as in `without_edge`.
    """
    rows = attention_rows(mixer, normed, list(readers))
    taken = rows.among(list(tokens)).sum(dim=1)
    with torch.no_grad():
        return mixed(mixer, normed[None])[0, list(readers)] - taken


@torch.no_grad()
def without_tokens(mixer: Mixer, normed: Float[Tensor, "L D"], tokens: Sequence[int]) -> Float[Tensor, "L D"]:
    """The mixer's output when the tokens are not in its sequence, and those beside them meet; they get nothing."""
    kept = torch.ones(len(normed), dtype=torch.bool, device=normed.device)
    kept[list(tokens)] = False
    out = torch.zeros_like(normed)
    if kept.any():
        out[kept] = mixed(mixer, normed[None, kept])[0].to(out)
    return out


@torch.no_grad()
def leak(mixer: Mixer, normed: Float[Tensor, "L D"], tokens: Sequence[int], readers: Sequence[int]) -> float:
    """Of what cutting an edge changes, the share that stays when the state's path alone is cut; NaN where nothing does.

    Measured along the whole change, over all readers.
    """
    plain = mixed(mixer, normed[None])[0, list(readers)]
    whole = plain - without_edge(mixer, normed, tokens, readers)
    state = plain - without_edge(mixer, normed, tokens, readers, leak=True)
    size = float(whole.square().sum())
    return 1 - float((whole * state).sum()) / size if size else float("nan")
