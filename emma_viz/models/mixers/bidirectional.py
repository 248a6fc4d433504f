"""Mamba-2 read in both directions: the connector of ML-Mamba (Huang et al. 2024), as its released code has it."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from emma_viz.kernels import causal_conv1d, ssd
from emma_viz.models.config import MambaConfig
from emma_viz.models.mixers.mamba1 import initial_dt_bias
from emma_viz.models.mixers.mamba2 import A_RANGE
from emma_viz.models.norms import GatedRMSNorm


class BidirectionalMamba(nn.Module):
    """Blocks of `BidirectionalBlock`, then a layer norm; no token is added or lost.

    Args:
        config: sizes of the mixers.
        n_blocks: how many blocks.
        backend: kernel backend.
    """

    def __init__(self, config: MambaConfig, n_blocks: int, *, backend: str = "auto"):
        super().__init__()
        self.layers = nn.ModuleList(BidirectionalBlock(config, backend=backend) for _ in range(n_blocks))
        self.norm_f = nn.LayerNorm(config.d_model)

    def forward(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Every token, knowing those before and after it."""
        for block in self.layers:
            tokens = block(tokens)
        return self.norm_f(tokens)


class BidirectionalBlock(nn.Module):
    """x ← x + mixer(x), with no norm before the mixer; x ← x + swiglu(norm(x))."""

    def __init__(self, config: MambaConfig, *, backend: str):
        super().__init__()
        self.norm = nn.LayerNorm(config.d_model)
        self.mixer = BidirectionalMixer(config, backend=backend)
        self.mlp = SwiGLU(config.d_model)

    def forward(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """The tokens with what mixer and MLP add to them."""
        tokens = tokens + self.mixer(tokens)
        return tokens + self.mlp(self.norm(tokens))


class SwiGLU(nn.Module):
    """w3(silu(w1 x) · w2 x), all three as wide as the tokens."""

    def __init__(self, width: int):
        super().__init__()
        self.w1, self.w2, self.w3 = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Each token by itself."""
        return self.w3(functional.silu(self.w1(x)) * self.w2(x))


class BidirectionalMixer(nn.Module):
    """Two Mamba-2 scans, one from each end, and their mean.

    Both share in_proj, gate, norm and out_proj; convolution, decay rates, step bias and D are each direction's own
    (those of the way back end in `_b`).
    """

    def __init__(self, config: MambaConfig, *, backend: str):
        super().__init__()
        self.config, self.backend = config, backend
        heads, convolved = config.n_heads, config.conv_width
        self.dt_bias, self.A_log, self.D = (nn.Parameter(torch.empty(heads)) for _ in range(3))
        self.dt_bias_b, self.A_log_b, self.D_b = (nn.Parameter(torch.empty(heads)) for _ in range(3))
        self.in_proj = nn.Linear(config.d_model, config.d_inner + convolved + heads, bias=False)
        self.conv1d, self.conv1d_b = (
            nn.Conv1d(convolved, convolved, config.d_conv, groups=convolved, padding=config.d_conv - 1)
            for _ in range(2)
        )
        self.norm = GatedRMSNorm(
            config.d_inner, groups=config.ngroups, eps=config.gated_norm_eps, backend=backend
        )
        self.out_proj = nn.Linear(config.d_inner, config.d_model, bias=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise as a Mamba-2 mixer, both directions alike."""
        if self.A_log.is_meta:
            return
        self.A_log.uniform_(*A_RANGE).log_()
        self.dt_bias.copy_(initial_dt_bias(self.dt_bias))
        self.A_log_b.copy_(self.A_log)
        self.dt_bias_b.copy_(self.dt_bias)
        self.D.fill_(1.0)
        self.D_b.fill_(1.0)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Each token gathers from those before it and from those behind it."""
        entered = self.in_proj(x)
        forth = self._scan(entered, self.conv1d, self.dt_bias, self.A_log, self.D)
        back = self._scan(entered.flip(1), self.conv1d_b, self.dt_bias_b, self.A_log_b, self.D_b)
        return self.out_proj((forth + back.flip(1)) / 2)

    def _scan(
        self,
        entered: Float[Tensor, "B T X"],
        conv: nn.Conv1d,
        dt_bias: Float[Tensor, " H"],
        A_log: Float[Tensor, " H"],
        D: Float[Tensor, " H"],
    ) -> Float[Tensor, "B T E"]:
        """One direction, up to and with the gated norm."""
        config = self.config
        gate, inner, dt = entered.split([config.d_inner, config.conv_width, config.n_heads], dim=-1)
        weight = rearrange(conv.weight, "X 1 K -> X K")
        inner, _ = causal_conv1d(inner, weight, conv.bias, activation="silu", backend=self.backend)
        groups = config.ngroups * config.d_state
        u, B, C = inner.split([config.d_inner, groups, groups], dim=-1)
        y, _ = ssd(
            rearrange(u, "B L (H P) -> B L H P", P=config.headdim),
            dt,
            -torch.exp(A_log.float()),
            rearrange(B, "B L (G N) -> B L G N", G=config.ngroups),
            rearrange(C, "B L (G N) -> B L G N", G=config.ngroups),
            D.float(),
            dt_bias=dt_bias.float(),
            dt_softplus=True,
            backend=self.backend,
        )
        return self.norm(rearrange(y, "B L H P -> B L (H P)"), gate)
