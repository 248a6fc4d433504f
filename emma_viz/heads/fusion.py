"""Multi-scale feature fusion (MFF) in the paper's form: cross-attention and Mamba, chained over the taps.

Eq. 6: H = X + cross_attention(X, Y), B(X, Y) = H + Mamba(H). Eq. 7: B₃(B₂(B₁(X_i, X_j), X_k), X_final).
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from emma_viz.errors import InputError
from emma_viz.heads.attention import CrossAttention
from emma_viz.heads.config import FusionConfig
from emma_viz.heads.mixers import build_mixer, layer_norm, rms_norm


class FusionBlock(nn.Module):
    """One block: what is fused so far asks the next tap, then a Mamba layer mixes along the tokens.

    We normalise what attention and Mamba read (`FusionConfig.norms`), which the paper's equations do not
    show.
    """

    def __init__(self, config: FusionConfig, *, backend: str = "auto"):
        super().__init__()
        self.norm_query = layer_norm(config.width, config.norms)
        self.norm_context = layer_norm(config.width, config.norms)
        self.attention = CrossAttention(config.width, config.n_heads, config.attention)
        self.norm_mixer = rms_norm(config.width, config.norms)
        self.mixer = build_mixer(config.width, config.mixer, backend=backend)

    def forward(self, x: Float[Tensor, "B T D"], y: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Fuse the tap `y` into `x`."""
        h = x + self.attention(self.norm_query(x), self.norm_context(y))
        return h + self.mixer(self.norm_mixer(h))


class MFF(nn.Module):
    """The taps of all depths as one feature per token.

    With as many blocks as taps, the first block fuses the earliest tap with itself (see
    docs/decisions/0002-mff-block-count.md); with one fewer, the chain is Eq. 7; with none, the last tap is
    returned.
    """

    def __init__(self, config: FusionConfig, *, backend: str = "auto"):
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(FusionBlock(config, backend=backend) for _ in range(config.n_blocks))

    @property
    def depths(self) -> tuple[int, ...]:
        """The tap (counted from 0) that each result of `prefixes` reaches; the last is always the final
        one."""
        n_taps = self.config.n_taps
        return tuple(range(n_taps))[-len(self.blocks) :] if len(self.blocks) else (n_taps - 1,)

    def forward(self, taps: Sequence[Float[Tensor, "B T D"]]) -> Float[Tensor, "B T D"]:
        """Fuse all taps, shallow to deep, the final hidden state last.

        Raises:
            InputError: the number of taps is not the configured one.
        """
        self._check(taps)
        return self.prefixes(taps)[-1]

    def prefixes(self, taps: Sequence[Float[Tensor, "B T D"]]) -> tuple[Float[Tensor, "B T D"], ...]:
        """What the chain holds after each block: B₁, then B₂(B₁, X_k), …, one entry for each of `depths`.

        Fewer taps than configured give the prefixes that they reach. Only the complete chain is what the
        decoder was trained to read.

        Raises:
            InputError: there are more taps than configured, or too few for one prefix.
        """
        if not self.blocks:
            self._check(taps)
            return (taps[-1],)
        first = self.depths[0]
        if not max(first, 1) <= len(taps) <= self.config.n_taps or len(taps) <= first:
            raise InputError(f"{first + 1} to {self.config.n_taps} taps can be fused here; {len(taps)} came.")
        fused, results = taps[0], []
        for block, depth in zip(self.blocks, self.depths, strict=True):
            if depth >= len(taps):
                break
            fused = block(fused, taps[depth])
            results.append(fused)
        return tuple(results)

    def _check(self, taps: Sequence[Tensor]) -> None:
        if len(taps) != self.config.n_taps:
            raise InputError(
                f"The fusion takes {self.config.n_taps} taps, shallow to deep, the final hidden state last; "
                f"{len(taps)} came."
            )
