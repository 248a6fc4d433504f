"""The pixel decoder in the paper's form (Eq. 8): Mamba layers, then linear layers, one patch per token."""

from jaxtyping import Float
from torch import Tensor, nn

from emma_viz.heads.config import DecoderConfig
from emma_viz.heads.mixers import build_mixer, rms_norm


class DecoderLayer(nn.Module):
    """x + Mamba(norm(x))."""

    def __init__(self, config: DecoderConfig, *, backend: str = "auto"):
        super().__init__()
        self.norm = rms_norm(config.width, config.norms)
        self.mixer = build_mixer(config.width, config.mixer, backend=backend)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Mix along the tokens; each sees itself and the earlier ones."""
        return x + self.mixer(self.norm(x))


class PaperDecoder(nn.Module):
    """Four Mamba layers, Linear D → D, GELU, Linear D → 3·p² at full size: 173M parameters.

    The paper names "linear layers" without an activation; with none the two would be one, so a GELU stands
    between.
    """

    def __init__(self, config: DecoderConfig, *, backend: str = "auto"):
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(DecoderLayer(config, backend=backend) for _ in range(config.n_layers))
        self.norm = rms_norm(config.width, config.norms)
        self.hidden = nn.Linear(config.width, config.width)
        self.activation = nn.GELU()
        self.out = nn.Linear(config.width, config.out_width)

    def forward(self, fused: Float[Tensor, "B T D"]) -> Float[Tensor, "B T ppc"]:
        """Decode one patch per token.

        Returns:
            Pixels as (x − 0.5)/0.25 with x in [0, 1], row by row, colours side by side
            (`emma_viz.heads.pixels.from_units` makes patches of them).
        """
        for layer in self.layers:
            fused = layer(fused)
        return self.out(self.activation(self.hidden(self.norm(fused))))
