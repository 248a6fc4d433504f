"""Translators of a tuned lens: one affine map a layer, from that layer's states to a basis that all share."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FullTranslator(nn.Module):
    """x + W x + b: any affine map. W and b start at zero, so the map starts as the identity.

    D² + D parameters: 6.6M at D = 2560, 420M for 64 layers.
    """

    def __init__(self, width: int):
        super().__init__()
        self.change = nn.Linear(width, width)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)

    def forward(self, x: Float[Tensor, "*axes D"]) -> Float[Tensor, "*axes D"]:
        """The states of one layer, as the shared decoder reads them."""
        return x + self.change(x)


class LowRankTranslator(nn.Module):
    """x · (1 + g) + U V x + b: a gain a channel and a change of low rank, starting as the identity.

    2·D·r + 2·D parameters: 0.33M at D = 2560 and r = 64, 21M for 64 layers.
    """

    def __init__(self, width: int, rank: int):
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(width))
        self.down = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(rank, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Float[Tensor, "*axes D"]) -> Float[Tensor, "*axes D"]:
        """The states of one layer, as the shared decoder reads them."""
        return x * (1 + self.gain) + self.up(self.down(x))


def build_translator(width: int, rank: int | None) -> FullTranslator | LowRankTranslator:
    """A translator of full rank when `rank` is None."""
    return FullTranslator(width) if rank is None else LowRankTranslator(width, rank)
