"""What a mixer did with its tokens, taken apart: the convolution's input and output, gates, and the state's routing.

A Mamba mixer is linear in what it carries once its routing is held: step sizes Δ, vectors B and C, the gate SiLU(z),
the secant σ(c) of the convolution's SiLU(c) = σ(c)·c, and the root mean squares of norms. Everything here is computed
from a mixer's input and its weights, in fp32 (fp64 for a model in fp64), without hooks in the model.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from emma_viz.errors import SiteError
from emma_viz.kernels import causal_conv1d, selective_scan, ssd
from emma_viz.models import Mamba1Mixer, Mamba2Mixer, MambaLM
from emma_viz.models.attention_sites import sites_of
from emma_viz.models.mixers.grouped import GroupedMamba

Mixer = Mamba1Mixer | Mamba2Mixer


def require_mixers(blocks: Iterable[nn.Module]) -> None:
    """Refuse the blocks of an attention transformer or a hybrid, which are no norm and mixer to take apart.

    Raises:
        SiteError: they are.
    """
    for block in blocks:
        block.mixer  # noqa: B018 - other blocks say so themselves


def mixer_at(llm: MambaLM, layer: int) -> Mixer | GroupedMamba:
    """The state-space mixer of a block, of a Mamba or of a hybrid.

    Args:
        llm: a loaded model's language model.
        layer: the block's index.

    Raises:
        SiteError: the block has attention in its place.
    """
    known = llm.config.mixer_layers
    if layer not in known:
        raise SiteError(
            f"expected a layer with a state-space mixer ({', '.join(map(str, known)) or 'this model has none'}), got "
            f"{layer}."
        )
    path = sites_of(llm.config)["delta"].path.format(i=layer).rpartition(".")[0]
    found = llm.backbone.get_submodule(path)
    assert isinstance(found, Mixer | GroupedMamba)
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """What `in_proj` gives, in the mixer's own parts."""

    x: Float[Tensor, "B L X"]
    """What is carried, before the convolution: E channels in Mamba-1; x, B and C together in Mamba-2."""
    z: Float[Tensor, "B Q E"]
    """The gate before its SiLU, of all positions or of those asked for."""
    dt: Float[Tensor, "B L H"] | None
    """Mamba-2's step sizes before bias and softplus; Mamba-1 reads them from what the convolution gives."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Routing:
    """What decides where content goes; all of it detached. Step sizes are after bias and softplus."""

    secant: Float[Tensor, "B L E"]
    """σ(c) of the carried channels: what the convolution's SiLU multiplies by."""
    delta: Float[Tensor, "B L E"] | Float[Tensor, "B L H"]
    B: Float[Tensor, "B L N"] | Float[Tensor, "B L G N"]
    C: Float[Tensor, "B L N"] | Float[Tensor, "B L G N"]
    decay: Float[Tensor, "E N"] | Float[Tensor, " H"]
    """A, negative."""
    skip: Float[Tensor, " E"] | Float[Tensor, " H"]
    """D."""


def wide(tensor: Tensor) -> Tensor:
    """The same numbers in fp32, or fp64 where the model is; as many axes, any shape.

    Args:
        tensor: of any shape.
    """
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def project_in(
    mixer: Mixer, normed: Float[Tensor, "B L D"], *, gates_at: Sequence[int] | None = None
) -> Inputs:
    """The mixer's `in_proj`, in parts; the gate, half of the work, at some positions alone where they are named.

    Args:
        mixer: of either kind.
        normed: what the mixer is given, (B, L, D).
        gates_at: the positions whose gates are wanted; all when None.
    """
    config, weight, normed = mixer.config, wide(mixer.in_proj.weight), wide(normed)
    asked = normed if gates_at is None else normed[:, list(gates_at)]
    if isinstance(mixer, Mamba1Mixer):
        into, gate = weight.split([config.d_inner, config.d_inner])
        return Inputs(x=functional.linear(normed, into), z=functional.linear(asked, gate), dt=None)
    gate, into = weight.split([config.d_inner, config.conv_width + config.n_heads])
    x, dt = functional.linear(normed, into).split([config.conv_width, config.n_heads], dim=-1)
    return Inputs(x=x, z=functional.linear(asked, gate), dt=dt)


def convolved(mixer: Mixer, x: Float[Tensor, "B L X"]) -> Float[Tensor, "B L X"]:
    """The convolution without its bias and its SiLU."""
    weight = rearrange(wide(mixer.conv1d.weight), "X 1 K -> X K")
    return causal_conv1d(x, weight, None, activation=None, backend=mixer.backend)[0]


def convolution_bias(mixer: Mixer) -> Float[Tensor, " X"]:
    """The bias of the convolution, the only constant of a mixer whose routing is held."""
    assert mixer.conv1d.bias is not None
    return wide(mixer.conv1d.bias)


@torch.no_grad()
def routing_of(mixer: Mixer, c: Float[Tensor, "B L X"], dt: Float[Tensor, "B L H"] | None) -> Routing:
    """The routing, from what the convolution gave before its SiLU (bias included).

    Args:
        mixer: of either kind.
        c: what the convolution gave before its SiLU, its bias included, (B, L, X).
        dt: the step sizes before their bias, one a head, (B, L, H), of Mamba-2; None for Mamba-1.
    """
    config, u = mixer.config, functional.silu(c)
    secant, decay, skip = c.sigmoid(), -torch.exp(wide(mixer.A_log)), wide(mixer.D)
    if isinstance(mixer, Mamba1Mixer):
        read = functional.linear(u, wide(mixer.x_proj.weight))
        low, B, C = read.split([config.rank, config.d_state, config.d_state], dim=-1)
        steps = functional.linear(low, wide(mixer.dt_proj.weight), wide(mixer.dt_proj.bias))
        return Routing(secant=secant, delta=functional.softplus(steps), B=B, C=C, decay=decay, skip=skip)
    assert dt is not None
    groups = config.ngroups * config.d_state
    _, B, C = u.split([config.d_inner, groups, groups], dim=-1)
    B, C = (rearrange(each, "B L (G N) -> B L G N", G=config.ngroups) for each in (B, C))
    delta = functional.softplus(dt.detach() + wide(mixer.dt_bias))
    return Routing(secant=secant[..., : config.d_inner], delta=delta, B=B, C=C, decay=decay, skip=skip)


def carried(mixer: Mixer, u: Float[Tensor, "B L E"], held: Routing) -> Float[Tensor, "B L E"]:
    """y = scan of u under a routing, D·u included, before gate and norm: linear in u.

    Args:
        mixer: of either kind.
        u: what enters the scan, (B, L, E).
        held: the routing.
    """
    if isinstance(mixer, Mamba1Mixer):
        return selective_scan(u, held.delta, held.decay, held.B, held.C, held.skip, backend=mixer.backend)[0]
    heads = rearrange(u, "B L (H P) -> B L H P", P=mixer.config.headdim)
    y = ssd(heads, held.delta, held.decay, held.B, held.C, held.skip, backend=mixer.backend)[0]
    return rearrange(y, "B L H P -> B L (H P)")


def mixed_out(mixer: Mixer, y: Float[Tensor, "B L E"], z: Float[Tensor, "B L E"]) -> Float[Tensor, "B L D"]:
    """From what the scan gave to the mixer's output: gate, Mamba-2's norm, `out_proj`.

    Args:
        mixer: of either kind.
        y: what the scan gave, (B, L, E).
        z: what the gates are made of, (B, L, E).
    """
    gated = y * functional.silu(z)
    scale = output_scale(mixer, gated)
    return functional.linear(gated if scale is None else gated * scale, wide(mixer.out_proj.weight))


def mixed(mixer: Mixer, normed: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
    """The mixer's output, computed again from its weights by the parts of this module."""
    inputs = project_in(mixer, normed)
    c = convolved(mixer, inputs.x) + convolution_bias(mixer)
    held = routing_of(mixer, c, inputs.dt)
    return mixed_out(mixer, carried(mixer, held.secant * c[..., : mixer.config.d_inner], held), inputs.z)


@torch.no_grad()
def output_scale(mixer: Mixer, gated: Float[Tensor, "B L E"]) -> Float[Tensor, "B L E"] | None:
    """What Mamba-2's norm multiplies the gated y by, γ over the root mean square of its group; None in Mamba-1."""
    if isinstance(mixer, Mamba1Mixer):
        return None
    return norm_scale(gated, mixer.norm.weight, mixer.norm.eps, groups=mixer.norm.groups)


@torch.no_grad()
def norm_scale(
    x: Float[Tensor, "*axes W"], weight: Float[Tensor, " W"], eps: float, *, groups: int = 1
) -> Float[Tensor, "*axes W"]:
    """weight / rms(x), the rms over each of `groups` equal parts of the last axis: an RMS norm is x times this.

    Args:
        x: what is normed, (*axes, W).
        weight: of the norm, (W,).
        eps: is added to the mean square.
        groups: equal parts of the last axis, each with an rms of its own.
    """
    parts = rearrange(wide(x), "... (G w) -> ... G w", G=groups)
    scale = torch.rsqrt(parts.square().mean(dim=-1, keepdim=True) + eps)
    return repeat(scale, "... G 1 -> ... (G w)", w=parts.shape[-1]) * wide(weight)
