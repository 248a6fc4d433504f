"""Blocks of Phi-2's form (transformers' `PhiDecoderLayer`): attention and MLP side by side, behind one layer norm."""

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from emma_viz.models.cache import MambaCache
from emma_viz.models.config import MambaConfig
from emma_viz.models.linear import LinearLayer
from emma_viz.models.mixers.attention import CausalAttention, TransformerBlock
from emma_viz.models.mixers.mamba2 import Mamba2Mixer


class ParallelBlock(TransformerBlock):
    """x + attention(norm x) + MLP(norm x), all linear layers with biases; a Mamba-2 for attention in some layers.

    It returns (attention + MLP, the stream before them), as `AttentionBlock` does. There is no stream between attention
    and MLP, hence no `hook_resid_mid`; the other hook points are those of `AttentionBlock`. `hook_attn_out` shows
    what mixes tokens, be it a Mamba-2 (`mamba`, with hook points of its own).

    Args:
        config: sizes.
        layer: the block's index, under which a cache keeps its keys and values.
        backend: of a Mamba-2 and the linear layers; attention is PyTorch's.
    """

    def __init__(self, config: MambaConfig, *, layer: int, backend: str = "auto"):
        super().__init__(config)
        self.input_layernorm = nn.LayerNorm(config.d_model, eps=config.norm_eps)
        if layer in config.mamba_layers:
            self.mamba = Mamba2Mixer(config.mixer, layer=layer, backend=backend)
        else:
            self.self_attn = CausalAttention(config, layer=layer, out="dense", backend=backend)
        self._name = "mamba" if layer in config.mamba_layers else "self_attn"
        self.mlp = GeluMLP(config.d_model, config.mlp_width, backend=backend)

    def forward(
        self,
        hidden: Float[Tensor, "B L D"],
        residual: Float[Tensor, "B L D"] | None = None,
        cache: MambaCache | None = None,
        lengths: Int[Tensor, " B"] | None = None,
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B L D"]]:
        """What the block adds and the stream that it was computed from; arguments as a Mamba's block."""
        stream = self.entered(hidden, residual)
        normed = self.input_layernorm(stream)
        attended = self.hook_attn_out(getattr(self, self._name)(normed, cache, lengths))
        out = attended + self.hook_mlp_out(self.mlp(normed))
        self.hook_resid_post.observe(lambda: out + stream)
        return out, stream


class GeluMLP(nn.Module):
    """fc2(gelu(fc1 x)), the tanh form of GELU."""

    def __init__(self, width: int, inner: int, *, backend: str = "auto"):
        super().__init__()
        self.fc1 = LinearLayer(width, inner, backend=backend)
        self.fc2 = LinearLayer(inner, width, backend=backend)

    def forward(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """Each token by itself."""
        return self.fc2(functional.gelu(self.fc1(x), approximate="tanh"))
