"""Blocks of InternLM2's form (Cai et al. 2024), some of whose mixers are a Mamba-2 made of the attention that was there
before (mmMamba, arXiv 2502.13145), with the released parameter names."""

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from emma_viz.kernels import ssd, ssd_step
from emma_viz.models.cache import LayerState, MambaCache, padded_positions
from emma_viz.models.config import MambaConfig
from emma_viz.models.hookpoint import HookPoint
from emma_viz.models.linear import LinearLayer
from emma_viz.models.mixers.attention import AttentionCore, GatedMLP, SequentialBlock
from emma_viz.models.mixers.convolution import convolve
from emma_viz.models.mixers.mamba1 import NO_STEP, initial_dt_bias
from emma_viz.models.norms import RMSNorm


class GroupedBlock(SequentialBlock):
    """Attention, or a Mamba-2 whose heads share keys and values, and an MLP.

    `hook_attn_out` shows what mixes tokens, be it a Mamba-2, which has hook points of its own.

    Args:
        config: sizes.
        layer: the block's index, under which a cache keeps what its mixer remembers.
        backend: of a Mamba-2 and the linear layers; attention is PyTorch's.
    """

    NAMES = ("attention_norm", "attention", "ffn_norm", "feed_forward")

    def __init__(self, config: MambaConfig, *, layer: int, backend: str = "auto"):
        attention = (
            GroupedMamba(config, layer=layer, backend=backend)
            if layer in config.mamba_layers
            else GroupedAttention(config, layer=layer, backend=backend)
        )
        super().__init__(
            config,
            attention,
            GatedMLP(config.d_model, config.mlp_width, names=("w1", "w3", "w2"), backend=backend),
        )
        self.to_unit = layer == config.unit_layer
        """Whether each token of the stream that enters is brought to the length 1."""

    def entered(
        self, hidden: Float[Tensor, "B L D"], residual: Float[Tensor, "B L D"] | None
    ) -> Float[Tensor, "B L D"]:
        """The stream that enters, each token of the length 1 where this block asks for it."""
        if self.to_unit:
            stream = hidden if residual is None else hidden + residual
            hidden, residual = stream / stream.norm(dim=-1, keepdim=True), None
        return super().entered(hidden, residual)


class GroupedAttention(AttentionCore):
    """Causal attention whose queries, keys and values one layer makes: of each key head its queries, key and value.

    Args:
        config: sizes.
        layer: under which a cache keeps its keys and values.
        backend: of the linear layers.
    """

    def __init__(self, config: MambaConfig, *, layer: int, backend: str = "auto"):
        super().__init__(config, layer=layer)
        self.wqkv = LinearLayer(
            config.d_model, (self.heads + 2 * self.kv_heads) * self.head, bias=False, backend=backend
        )
        self.wo = LinearLayer(self.heads * self.head, config.d_model, bias=False, backend=backend)

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        cache: MambaCache | None = None,
        lengths: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B L D"]:
        """Each token reads those before it and itself; with a cache, also those of the passes before."""
        shared = self.heads // self.kv_heads
        parts = rearrange(self.wqkv(x), "B L (K s P) -> B K s L P", K=self.kv_heads, P=self.head)
        q, k, v = parts.split([shared, 1, 1], dim=2)
        q = rearrange(q, "B K s L P -> B (K s) L P")
        return self.wo(self.attended(q, k[:, :, 0], v[:, :, 0], cache, lengths))


class GroupedMamba(nn.Module):
    """A Mamba-2 in the place of attention: values enter, keys write (B), queries read (C); no skip.

    [v, k, q, gate, dt] = wvkqgdt x; convolution and SiLU on v, k, q; then the heads of a group share v and k, as they
    did in attention; a norm within each head, then the gate's SiLU; o_proj. Hook points: `hook_conv`, `hook_B`
    (`B L KP`, after the convolution), `hook_C` (`B L HP`, likewise), `hook_z` (`B L E`, the gate before its SiLU) and
    `hook_y` (`B L E`, what enters o_proj) are pass-through; `hook_delta` (`B L H`, after bias and softplus; 0 on
    padding) is replacement, `hook_scan` (`B L E`, before norm and gate) observation only.

    Args:
        config: sizes.
        layer: under which a cache keeps its state.
        backend: kernel backend; "auto" picks by device.
    """

    def __init__(self, config: MambaConfig, *, layer: int, backend: str = "auto"):
        super().__init__()
        self.layer, self.backend = layer, backend
        self.heads, self.kv_heads = config.q_heads, config.kv_heads
        width, self.head = config.d_model, config.d_model // config.q_heads
        self.shared = self.kv_heads * self.head
        convolved = width + 2 * self.shared
        self.eps = config.gated_norm_eps
        self.dt_bias = nn.Parameter(torch.empty(self.heads))
        self.A_log_bias = nn.Parameter(torch.zeros(self.heads))
        self.wvkqgdt = LinearLayer(width, convolved + width + self.heads, bias=False, backend=backend)
        self.o_proj = LinearLayer(width, width, bias=False, backend=backend)
        self.conv1d = nn.Conv1d(
            convolved, convolved, config.d_conv, groups=convolved, padding=config.d_conv - 1
        )
        self.g_norm_swish_gate = RMSNorm(self.head, eps=config.gated_norm_eps)
        self.hook_conv, self.hook_B, self.hook_C = HookPoint(), HookPoint(), HookPoint()
        self.hook_z, self.hook_delta = HookPoint(), HookPoint()
        self.hook_scan, self.hook_y = HookPoint(), HookPoint()
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """As the released code: A = −1, step sizes log-uniform, and a convolution that changes nothing."""
        if self.dt_bias.is_meta:
            return
        self.dt_bias.copy_(initial_dt_bias(self.dt_bias))
        for parameter in self.conv1d.parameters():
            parameter.zero_()
        self.conv1d.weight[:, 0, -1] = 1.0

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        cache: MambaCache | None = None,
        lengths: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B L D"]:
        """Mix along the tokens; arguments as in `Mamba1Mixer.forward`."""
        state = None if cache is None else cache.mixer_state(self.layer, len(x))
        lengths = None if cache is None else lengths
        width = x.shape[-1]
        entered, gate, dt = self.wvkqgdt(x).split([width + 2 * self.shared, width, self.heads], dim=-1)
        gate, before = self.hook_z(gate), None if state is None else state.conv
        entered, conv_state = convolve(entered, self.conv1d, before, lengths, backend=self.backend)
        v, k, q = entered.split([self.shared, self.shared, width], dim=-1)
        v, k, q = (self._by_head(each) for each in (self.hook_conv(v), self.hook_B(k), self.hook_C(q)))
        if lengths is not None:
            dt = dt.masked_fill(padded_positions(lengths, x.shape[1])[..., None], NO_STEP)
        bias = self.dt_bias.float()
        given = self.hook_delta.replaced(lambda: functional.softplus(dt.float() + bias))
        step, added = (dt, bias) if given is None else (given.to(v.dtype), None)
        y, ssm = self._scanned(v, step, k, q, added, state)
        if cache is not None:
            cache.layers[self.layer] = LayerState(conv=conv_state, ssm=ssm)
        self.hook_scan.observe(lambda: rearrange(y, "B L H P -> B L (H P)"))
        gated = self.g_norm_swish_gate(y).float() * functional.silu(self._by_head(gate).float())
        return self.o_proj(self.hook_y(rearrange(gated.to(x.dtype), "B L H P -> B L (H P)")))

    def _by_head(self, x: Float[Tensor, "B L X"]) -> Float[Tensor, "B L H P"]:
        """Heads of their own, or those that several share repeated for each."""
        return repeat(x, "B L (K P) -> B L (K s) P", P=self.head, s=self.heads * self.head // x.shape[-1])

    def _scanned(
        self,
        v: Float[Tensor, "B L H P"],
        step: Float[Tensor, "B L H"],
        k: Float[Tensor, "B L H P"],
        q: Float[Tensor, "B L H P"],
        bias: Float[Tensor, " H"] | None,
        state: LayerState | None,
    ) -> tuple[Float[Tensor, "B L H P"], Float[Tensor, "B H P N"]]:
        """What the SSM gives, and the state behind; `bias` None means that `step` is Δ itself."""
        A = -torch.exp(self.A_log_bias.float())
        if state is not None and v.shape[1] == 1:
            y, after = ssd_step(
                state.ssm, v[:, 0], step[:, 0], A, k[:, 0], q[:, 0], dt_bias=bias, dt_softplus=bias is not None,
                backend=self.backend,
            )  # fmt: skip
            return y[:, None], after
        return ssd(
            v, step, A, k, q, dt_bias=bias, dt_softplus=bias is not None,
            initial_state=None if state is None else state.ssm, backend=self.backend,
        )  # fmt: skip
