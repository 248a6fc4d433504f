"""Blocks of an attention transformer of Llama's form (Touvron et al. 2023), with transformers' parameter names."""

from typing import NoReturn

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from emma_viz.errors import SiteError
from emma_viz.models.cache import AttentionState, MambaCache
from emma_viz.models.config import MambaConfig
from emma_viz.models.hookpoint import HookPoint
from emma_viz.models.norms import RMSNorm


class AttentionBlock(nn.Module):
    """Norm, attend, add; norm, MLP, add.

    It returns (MLP output, the stream before it), whose sum is the residual stream after the block, as a Mamba's block
    returns its mixer's. Hook points have TransformerLens's names: `hook_resid_pre`, `hook_attn_out`, `hook_resid_mid`
    and `hook_mlp_out` are pass-through, as is `hook_z` of `self_attn`; `hook_resid_post` is observation only.

    Args:
        config: sizes.
        layer: the block's index, under which a cache keeps its keys and values.
        backend: not used; attention is PyTorch's.
    """

    def __init__(self, config: MambaConfig, *, layer: int, backend: str = "auto"):
        super().__init__()
        self.residual_in_fp32 = config.residual_in_fp32
        self.input_layernorm = RMSNorm(config.d_model, eps=config.norm_eps)
        self.self_attn = CausalAttention(config, layer=layer)
        self.post_attention_layernorm = RMSNorm(config.d_model, eps=config.norm_eps)
        self.mlp = GatedMLP(config.d_model, config.mlp_width)
        self.hook_resid_pre, self.hook_attn_out, self.hook_resid_mid = HookPoint(), HookPoint(), HookPoint()
        self.hook_mlp_out, self.hook_resid_post = HookPoint(), HookPoint()

    @property
    def mixer(self) -> NoReturn:
        """Nothing: what asks for a block's state-space mixer is told so.

        Raises:
            SiteError: always.
        """
        refuse_mixer()

    def forward(
        self,
        hidden: Float[Tensor, "B L D"],
        residual: Float[Tensor, "B L D"] | None = None,
        cache: MambaCache | None = None,
        lengths: Int[Tensor, " B"] | None = None,
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B L D"]]:
        """The MLP's output and the stream that it was computed from; arguments as a Mamba's block."""
        stream = hidden if residual is None else hidden + residual
        if self.residual_in_fp32:
            stream = stream.float()
        stream = self.hook_resid_pre(stream)
        attended = self.hook_attn_out(self.self_attn(self.input_layernorm(stream), cache, lengths))
        middle = self.hook_resid_mid(stream + attended)
        out = self.hook_mlp_out(self.mlp(self.post_attention_layernorm(middle)))
        self.hook_resid_post.observe(lambda: out + middle)
        return out, middle


def refuse_mixer() -> NoReturn:
    """Say that a block has no state-space mixer.

    Raises:
        SiteError: always.
    """
    raise SiteError(
        "This looks into a Mamba's mixer (its step sizes Δ, B, C and decay), and the block of an attention "
        "transformer has none: choose a Mamba, or something that reads the residual stream."
    )


class GatedMLP(nn.Module):
    """down(silu(gate x) · up x)."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """Each token by itself."""
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


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
    """

    def __init__(self, config: MambaConfig, *, layer: int, out: str = "o_proj"):
        super().__init__(config, layer=layer)
        width = config.d_model
        self.q_proj = nn.Linear(width, self.heads * self.head, bias=config.qkv_bias)
        self.k_proj = nn.Linear(width, self.kv_heads * self.head, bias=config.qkv_bias)
        self.v_proj = nn.Linear(width, self.kv_heads * self.head, bias=config.qkv_bias)
        self._out = out
        setattr(self, out, nn.Linear(self.heads * self.head, width, bias=out != "o_proj"))

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
