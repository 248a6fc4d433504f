"""The pocket vision encoder: a small convolutional U whose output is one token per 8×8 patch."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

PATCH = 8
"""Pixels per side of the square that one token stands for."""


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with batch norm, added to their input."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Float[Tensor, "B W h w"]) -> Float[Tensor, "B W h w"]:
        """Return x + f(x)."""
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(x + self.norm2(self.conv2(y)))


def _down(inputs: int, outputs: int, stride: int = 2) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class PocketEncoder(nn.Module):
    """Image → one token per patch, in row-major order.

    Convolutions at 1/4, 1/8 and 1/16 of the image's side; the coarsest is enlarged and added to the middle one,
    so that a token knows its own pixels and what they are part of.

    Args:
        width: channels of a token.
        fine: channels at 1/4.
        middle: channels at 1/8, the tokens' grid.
        coarse: channels at 1/16.
    """

    def __init__(self, width: int = 96, *, fine: int = 40, middle: int = 112, coarse: int = 160):
        super().__init__()
        self.width = width
        self.stem = nn.Sequential(_down(3, 24), _down(24, fine), ResidualBlock(fine))
        self.middle = nn.Sequential(_down(fine, middle), ResidualBlock(middle))
        self.coarse = nn.Sequential(_down(middle, coarse), ResidualBlock(coarse))
        self.up = nn.Conv2d(coarse, middle, 1)
        self.merge = ResidualBlock(middle)
        self.out = nn.Conv2d(middle, width, 1)
        self.norm = nn.LayerNorm(width)

    def forward(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B T F"]:
        """Encode normalised pixels; S must be a multiple of 16."""
        middle = self.middle(self.stem(pixels))
        coarse = F.interpolate(self.up(self.coarse(middle)), scale_factor=2, mode="nearest")
        features = self.out(self.merge(middle + coarse))
        return self.norm(rearrange(features, "B F R C -> B (R C) F"))
