"""Blocks of an attention transformer of Llama's form (Touvron et al. 2023), with transformers' parameter names."""

from functools import partial
from typing import ClassVar, NoReturn

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from emma_viz.errors import SiteError
from emma_viz.models.cache import AttentionState, MambaCache
from emma_viz.models.config import MambaConfig
from emma_viz.models.hookpoint import HookPoint
from emma_viz.models.linear import LinearLayer
from emma_viz.models.norms import RMSNorm


class TransformerBlock(nn.Module):
    """What blocks of attention transformers, and of hybrids, share: the stream that enters, and hook points.

    Args:
        config: sizes.
    """

    def __init__(self, config: MambaConfig):
        super().__init__()
        self.residual_in_fp32 = config.residual_in_fp32
        self.hook_resid_pre, self.hook_attn_out = HookPoint(), HookPoint()
        self.hook_mlp_out, self.hook_resid_post = HookPoint(), HookPoint()

    @property
    def mixer(self) -> NoReturn:
        """Nothing: what takes a Mamba's block apart, a norm and a mixer, is told so.

        Raises:
            SiteError: always.
        """
        raise SiteError(
            "This takes a Mamba's blocks apart, each a norm and a mixer (with its step sizes Δ, B, C and decay): an "
            "attention transformer has none, and a hybrid has MLPs, and attention in places, beside them. Choose a "
            "Mamba, or something that reads sites."
        )

    def entered(
        self, hidden: Float[Tensor, "B L D"], residual: Float[Tensor, "B L D"] | None
    ) -> Float[Tensor, "B L D"]:
        """The stream that enters the block: what the one before put out, on what it was computed from."""
        stream = hidden if residual is None else hidden + residual
        return self.hook_resid_pre(stream.float() if self.residual_in_fp32 else stream)


class SequentialBlock(TransformerBlock):
    """Norm, attend, add; norm, MLP, add.

    It returns (MLP output, the stream before it), whose sum is the residual stream after the block, as a Mamba's block
    returns its mixer's. Hook points have TransformerLens's names: `hook_resid_pre`, `hook_attn_out`, `hook_resid_mid`
    and `hook_mlp_out` are pass-through, as is `hook_z` of the attention; `hook_resid_post` is observation only.

    Args:
        config: sizes.
        attention: what mixes tokens.
        mlp: what follows.
    """

    NAMES: ClassVar[tuple[str, str, str, str]]
    """What the released code calls norm, attention, second norm and MLP."""

    def __init__(self, config: MambaConfig, attention: nn.Module, mlp: nn.Module):
        super().__init__(config)
        norm, second_norm = (RMSNorm(config.d_model, eps=config.norm_eps) for _ in range(2))
        for name, part in zip(self.NAMES, (norm, attention, second_norm, mlp), strict=True):
            self.add_module(name, part)
        self.hook_resid_mid = HookPoint()

    def forward(
        self,
        hidden: Float[Tensor, "B L D"],
        residual: Float[Tensor, "B L D"] | None = None,
        cache: MambaCache | None = None,
        lengths: Int[Tensor, " B"] | None = None,
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B L D"]]:
        """The MLP's output and the stream that it was computed from; arguments as a Mamba's block."""
        norm, attention, second_norm, mlp = (getattr(self, name) for name in self.NAMES)
        stream = self.entered(hidden, residual)
        middle = self.hook_resid_mid(stream + self.hook_attn_out(attention(norm(stream), cache, lengths)))
        out = self.hook_mlp_out(mlp(second_norm(middle)))
        self.hook_resid_post.observe(lambda: out + middle)
        return out, middle


class AttentionBlock(SequentialBlock):
    """A block of Llama's form.

    Args:
        config: sizes.
        layer: the block's index, under which a cache keeps its keys and values.
        backend: of the linear layers; attention is PyTorch's.
    """

    NAMES = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")

    def __init__(self, config: MambaConfig, *, layer: int, backend: str = "auto"):
        super().__init__(
            config,
            CausalAttention(config, layer=layer, backend=backend),
            GatedMLP(config.d_model, config.mlp_width, backend=backend),
        )


class GatedMLP(nn.Module):
    """down(silu(gate x) · up x).

    Args:
        width: of the stream.
        inner: between the layers.
        names: what the released code calls gate, up and down.
        backend: of the linear layers.
    """

    def __init__(
        self,
        width: int,
        inner: int,
        *,
        names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"),
        backend: str = "auto",
    ):
        super().__init__()
        self._names = names
        for name, given, made in zip(names, (width, width, inner), (inner, inner, width), strict=True):
            self.add_module(name, LinearLayer(given, made, bias=False, backend=backend))

    def forward(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """Each token by itself."""
        gate, up, down = (getattr(self, name) for name in self._names)
        return down(functional.silu(gate(x)) * up(x))


class AttentionCore(nn.Module):
    """What attention does with queries, keys and values: rotary positions, and what was seen before.

    Args:
        config: sizes.
        layer: under which a cache keeps its keys and values.
    """

    def __init__(self, config: MambaConfig, *, layer: int):
        super().__init__()
        self.layer, self.base = layer, config.rope_base
        self.heads, self.kv_heads = config.q_heads, config.kv_heads
        self.head = config.d_model // config.q_heads
        self.turned = int(self.head * config.rotary_share)
        self.hook_z = HookPoint()

    def attended(
        self,
        q: Float[Tensor, "B H L P"],
        k: Float[Tensor, "B K L P"],
        v: Float[Tensor, "B K L P"],
        cache: MambaCache | None,
        lengths: Int[Tensor, " B"] | None,
    ) -> Float[Tensor, "B L E"]:
        """The heads' outputs, side by side; several query heads may share a key head.

        Args:
            q: queries, not turned by their positions yet.
            k: keys, likewise.
            v: values.
            cache: keys and values of the passes before, and then of this one.
            lengths: tokens of each right-padded sample.
        """
        batch, _, length, _ = q.shape
        lengths = None if cache is None else lengths
        here = torch.arange(length, device=q.device).expand(batch, length)
        positions = here
        if cache is not None and cache.offset is not None:  # the backbone has counted this pass already
            own = length if lengths is None else lengths
            # Fewer samples than were counted: those of a pass in which some are still the same.
            positions = here + (cache.offset - own)[:batch, None]
        q, k = self._turned(q, positions), self._turned(k, positions)
        mask = None
        if cache is not None:
            real = here >= 0 if lengths is None else here < lengths[:, None]
            state = AttentionState(k=k, v=v, real=real).after(cache.layers[self.layer])
            cache.layers[self.layer] = state
            k, v, mask = state.k, state.v, _readable(state.real, length)
        shared = self.heads // self.kv_heads
        z = functional.scaled_dot_product_attention(
            q, k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1), mask, is_causal=mask is None
        )
        return self.hook_z(rearrange(z, "B H L P -> B L (H P)"))

    def _turned(self, x: Float[Tensor, "B H L P"], positions: Int[Tensor, "B L"]) -> Float[Tensor, "B H L P"]:
        """Rotary positions: each pair of channels, half of those that are turned apart, turned by an angle that grows
        with the place."""
        half = self.turned // 2
        powers = torch.arange(half, device=x.device, dtype=torch.float32) / half
        angles = positions[:, None, :, None].float() * self.base**-powers
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        one, other, rest = x.split([half, half, self.head - 2 * half], dim=-1)
        return torch.cat([one * cos - other * sin, other * cos + one * sin, rest], dim=-1)


class CausalAttention(AttentionCore):
    """Softmax attention with rotary positions; several query heads may share a key head.

    Args:
        config: sizes.
        layer: under which a cache keeps its keys and values.
        out: what the released code calls the output projection; one that is not `o_proj` has a bias.
        backend: of the linear layers.
    """

    def __init__(self, config: MambaConfig, *, layer: int, out: str = "o_proj", backend: str = "auto"):
        super().__init__(config, layer=layer)
        width = config.d_model
        made = partial(LinearLayer, width, bias=config.qkv_bias, backend=backend)
        self.q_proj = made(self.heads * self.head)
        self.k_proj, self.v_proj = (made(self.kv_heads * self.head) for _ in range(2))
        self._out = out
        setattr(self, out, LinearLayer(self.heads * self.head, width, bias=out != "o_proj", backend=backend))

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        cache: MambaCache | None = None,
        lengths: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B L D"]:
        """Each token reads those before it and itself; with a cache, also those of the passes before."""
        q, k, v = (
            rearrange(make(x), "B L (H P) -> B H L P", P=self.head)
            for make in (self.q_proj, self.k_proj, self.v_proj)
        )
        return getattr(self, self._out)(self.attended(q, k, v, cache, lengths))


def _readable(real: Bool[Tensor, "B S"], length: int) -> Bool[Tensor, "B 1 L S"]:
    """Which keys each query of this pass reads: real ones, up to its own."""
    whole = real.shape[1]
    causal = torch.ones(length, whole, dtype=torch.bool, device=real.device).tril(whole - length)
    return (real[:, None, :] & causal)[:, None]
