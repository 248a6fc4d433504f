"""The pocket image encoder: a small convolutional U that a CPU trains in minutes."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from emma_viz.models.vision_config import TowerConfig

STEM, FINE, MIDDLE, COARSE = 24, 40, 112, 160
"""Channels at a quarter of the patch size, at half of it, at the patch size, and at twice the patch size."""


class ResidualBlock(nn.Module):
    """Two dense 3×3 convolutions with batch norm, added to the input."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Float[Tensor, "B X h w"]) -> Float[Tensor, "B X h w"]:
        """Two convolutions beside the identity; the size stays."""
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(x + self.norm2(self.conv2(y)))


class PocketEncoder(nn.Module):
    """Image → one token a patch of 8 pixels.

    At 128 px: 40 channels at 32×32, 112 at 16×16, 160 at 8×8, then up, added to the 16×16 plane, so that a
    token knows its own pixels and what they are part of; one more block, `width` channels, and a LayerNorm
    over the channels of each token.
    """

    def __init__(self, config: TowerConfig):
        super().__init__()
        self.config = config
        self.stem = nn.Sequential(_down(3, STEM), _down(STEM, FINE), ResidualBlock(FINE))
        self.middle = nn.Sequential(_down(FINE, MIDDLE), ResidualBlock(MIDDLE))
        self.coarse = nn.Sequential(_down(MIDDLE, COARSE), ResidualBlock(COARSE))
        self.up = nn.Conv2d(COARSE, MIDDLE, 1)
        self.merge = ResidualBlock(MIDDLE)
        self.out = nn.Conv2d(MIDDLE, config.width, 1)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B T F"]:
        """Patch tokens of normalised pixels, row-major."""
        middle = self.middle(self.stem(pixels.to(self.up.weight.dtype)))
        raised = nn.functional.interpolate(self.up(self.coarse(middle)), scale_factor=2.0, mode="nearest")
        tokens = self.out(self.merge(middle + raised))
        return self.norm(rearrange(tokens, "B F R C -> B (R C) F"))


def _down(channels: int, out: int) -> nn.Sequential:
    """Halve the plane: 3×3 convolution with stride 2, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()
    )
