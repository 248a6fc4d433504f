"""Fusion and decoder in the form of the released EMMA code, whose output is a patch embedding."""

from collections.abc import Sequence

import torch
from einops import repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from emma_viz.errors import InputError
from emma_viz.heads.attention import CrossAttention
from emma_viz.heads.config import ReleasedConfig
from emma_viz.heads.mixers import build_mixer, rms_norm
from emma_viz.heads.regroup import block_causal_mask, interleaved, regroup


class ReleasedFusion(nn.Module):
    """Each tap normalised, all concatenated, one linear layer (`enc2dec`), split into interleaved slices.

    At full size `enc2dec` is Linear 10240 → 10240, 104.9M parameters.
    """

    def __init__(self, config: ReleasedConfig):
        super().__init__()
        self.n_taps = config.n_taps
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in range(config.n_taps))
        self.enc2dec = nn.Linear(config.n_taps * config.width, config.n_taps * config.width)

    def forward(self, taps: Sequence[Float[Tensor, "B T D"]]) -> Float[Tensor, "n B T D"]:
        """One slice per decoder block, row-major over the grid.

        Raises:
            InputError: the number of taps is not the configured one.
        """
        if len(taps) != self.n_taps:
            raise InputError(
                f"The fusion takes {self.n_taps} taps, the final hidden state last; {len(taps)} came."
            )
        together = torch.cat([norm(tap) for norm, tap in zip(self.norms, taps, strict=True)], dim=-1)
        return interleaved(self.enc2dec(together), self.n_taps)


class ReleasedBlock(nn.Module):
    """q + cross_attention(LN(q), LN(kv)), then q + Mamba2(RMSNorm(LN(q))): two norms in a row, as
    released."""

    def __init__(self, config: ReleasedConfig, *, backend: str = "auto"):
        super().__init__()
        self.norm_query = nn.LayerNorm(config.width)
        self.norm_context = nn.LayerNorm(config.width)
        self.attention = CrossAttention(config.width, config.n_heads)
        self.norm = nn.LayerNorm(config.width)
        self.norm_mixer = rms_norm(config.width)
        self.mixer = build_mixer(config.width, config.mixer, backend=backend)

    def forward(
        self,
        queries: Float[Tensor, "B T D"],
        context: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "T T"],
    ) -> Float[Tensor, "B T D"]:
        """Read one slice."""
        queries = queries + self.attention(self.norm_query(queries), self.norm_context(context), mask)
        return queries + self.mixer(self.norm_mixer(self.norm(queries)))


class ReleasedDecoder(nn.Module):
    """One learned query for all patches, in 3×3 groups, reading a slice per block under a block-causal mask.

    The queries are regrouped, the keys and values are not: a query's segment of the mask is C consecutive
    tokens of the regrouped order, a key's is a row of the image. This is so in the released code.
    """

    def __init__(self, config: ReleasedConfig, *, backend: str = "auto"):
        super().__init__()
        self.grid = config.grid
        rows, columns = config.grid
        self.query = nn.Parameter(torch.randn(config.width) * 0.02)
        # The released table is zero and never trained; it is kept as a place that a checkpoint may fill.
        self.positions: Tensor
        self.register_buffer("positions", torch.zeros(rows * columns, config.width))
        self.blocks = nn.ModuleList(ReleasedBlock(config, backend=backend) for _ in range(config.n_taps))
        self.blocks.apply(_xavier)
        self.norm = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, config.target_width)

    def forward(self, slices: Float[Tensor, "n B T D"]) -> Float[Tensor, "B T F"]:
        """Predict the normalised patch embedding of every token, in regrouped order.

        Raises:
            InputError: the tokens do not fill the grid.
        """
        _, batch, n_tokens, _ = slices.shape
        rows, columns = self.grid
        if n_tokens != rows * columns:
            raise InputError(
                f"This decoder was built for {rows}×{columns} = {rows * columns} image tokens; {n_tokens} "
                "came."
            )
        # FSDP2 computes with parameters in bf16 and leaves buffers in fp32.
        queries = repeat(self.query + self.positions.to(self.query.dtype), "t d -> b t d", b=batch)
        queries = regroup(queries, self.grid)
        mask = block_causal_mask(self.grid, slices.device)
        for block, context in zip(self.blocks, slices, strict=True):
            queries = block(queries, context, mask)
        return self.out(self.norm(queries))


def _xavier(module: nn.Module) -> None:
    """Start the linear layers of the blocks as released: Xavier-uniform weights, no bias. Mamba's included."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
