"""VL-Mamba's connector, built from the paper (arXiv 2403.13600): nobody has released its code or weights."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from emma_viz.models.config import MambaConfig, ScanOrder
from emma_viz.models.cross_scan import scan_orders
from emma_viz.models.mixers.mamba1 import Mamba1Mixer
from emma_viz.models.ranges import Grid


class VssConnector(nn.Module):
    """VSS-L2: V' = linear(V); out = linear(norm(VSS(GELU(V')) + V')).

    VSS reads the tokens in several orders with one Mamba layer, puts each token's results back at its place and adds
    them up. The paper leaves open: the width between (here the language model's), the sizes of the Mamba layer (Mamba-1
    with those of mamba_ssm's defaults), whether all orders share it (they do: "one mamba layer"), how they are merged
    (by their sum, as in VMamba), and the norm (LayerNorm).

    Args:
        features: channels F of the encoder's features.
        width: d_model of the language model.
        grid: rows and columns of the tokens.
        scan: `bidirectional` (forward and backward), or `cross` (rows and columns, both ways).
        backend: kernel backend.
    """

    def __init__(self, features: int, width: int, grid: Grid, *, scan: ScanOrder, backend: str = "auto"):
        super().__init__()
        self.grid, self.scan = grid, scan
        self.enter = nn.Linear(features, width)
        layer = MambaConfig(d_model=width, n_layer=1, vocab_size=1)
        self.mixer = Mamba1Mixer(layer, layer=0, backend=backend)
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, width)

    def forward(self, features: Float[Tensor, "B T F"]) -> Float[Tensor, "B T D"]:
        """Image tokens, in the order in which features came."""
        entered = self.enter(features)
        given = functional.gelu(entered)
        rows, columns, rows_back, columns_back = scan_orders(given, self.grid)
        scanned = self.mixer(rows) + self.mixer(rows_back).flip(1)
        if self.scan == "cross":
            by_column = self.mixer(columns) + self.mixer(columns_back).flip(1)
            scanned = scanned + rearrange(by_column, "B (C R) D -> B (R C) D", R=self.grid[0])
        return self.leave(self.norm(scanned + entered))
