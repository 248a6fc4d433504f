"""No encoder: the pixels of each patch, for models whose language model reads them itself."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from emma_viz.models.vision_config import TowerConfig


class PatchTower(nn.Module):
    """Image → the normalised pixels of each patch; it has no weights."""

    def __init__(self, config: TowerConfig):
        super().__init__()
        self.patch = config.patch

    def forward(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B T F"]:
        """Patches row by row, each in the order of a convolution's weight: channel, row, column."""
        return rearrange(pixels, "B c (R i) (C j) -> B (R C) (c i j)", i=self.patch, j=self.patch)
