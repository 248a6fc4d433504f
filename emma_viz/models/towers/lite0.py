"""EfficientNet-Lite0 as an encoder: features of four depths of an ImageNet classifier, reduced by a fixed linear map.

Source: the EfficientNet-Lite release of Google's TPU repository. Weights trained in TensorFlow pad as TensorFlow does,
more at the bottom and the right, and their batch norms have an epsilon of 1e-3.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from emma_viz.models.vision_config import TowerConfig

LITE0_STEM = 32
"""Channels behind the first convolution."""
BLOCKS: tuple[tuple[int, int, int, int, int], ...] = (
    (32, 16, 1, 3, 1),
    (16, 24, 6, 3, 2), (24, 24, 6, 3, 1),
    (24, 40, 6, 5, 2), (40, 40, 6, 5, 1),
    (40, 80, 6, 3, 2), (80, 80, 6, 3, 1), (80, 80, 6, 3, 1),
    (80, 112, 6, 5, 1), (112, 112, 6, 5, 1), (112, 112, 6, 5, 1),
    (112, 192, 6, 5, 2), (192, 192, 6, 5, 1), (192, 192, 6, 5, 1), (192, 192, 6, 5, 1),
    (192, 320, 6, 3, 1),
)  # fmt: skip
"""(channels in, channels out, expansion, kernel, stride) of every block."""
LITE0_FINE, LITE0_MIDDLE, LATE, LITE0_COARSE = 4, 7, 10, 15
"""The blocks whose outputs are features: the last at strides 8 and 16 (of 80 and of 112 channels) and the last."""
LITE0_FEATURES = (
    4 * BLOCKS[LITE0_FINE][1] + BLOCKS[LITE0_MIDDLE][1] + BLOCKS[LATE][1] + BLOCKS[LITE0_COARSE][1]
)
"""Channels of a token before the reduction."""
_EPSILON = 1e-3


class SameConv(nn.Conv2d):
    """A convolution that pads as TensorFlow's SAME does: out = ceil(in / stride), the odd pixel at the end."""

    def forward(self, input: Float[Tensor, "B _ h w"]) -> Float[Tensor, "B _ H W"]:
        """Pad, then convolve."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        rows, columns = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in input.shape[-2:])
        padded = nn.functional.pad(input, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return super().forward(padded)


def _conv(channels: int, out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        SameConv(channels, out, kernel, stride=stride, groups=groups, bias=False),
        nn.BatchNorm2d(out, eps=_EPSILON),
    )


class Bottleneck(nn.Module):
    """Expand, convolve each channel, project; added to the input where the shapes agree."""

    def __init__(self, channels: int, out: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        inner = channels * expansion
        self.expand = _conv(channels, inner, 1) if expansion > 1 else None
        self.depthwise = _conv(inner, inner, kernel, stride=stride, groups=inner)
        self.project = _conv(inner, out, 1)
        self.added = stride == 1 and channels == out

    def forward(self, x: Float[Tensor, "B X h w"]) -> Float[Tensor, "B Y H W"]:
        """The block's output; the projection has no activation."""
        y = x if self.expand is None else nn.functional.relu6(self.expand(x))
        y = self.project(nn.functional.relu6(self.depthwise(y)))
        return x + y if self.added else y


class Lite0Tower(nn.Module):
    """Image → one token a patch of 16 pixels, which knows its own pixels and what they are part of.

    At 256 px: the 32×32 plane of stride 8 with 2×2 neighbours side by side, two 16×16 planes of stride 16, and the 8×8
    plane of stride 32 with each cell four times. `reduce` takes these channels to `width`: a fixed linear
    map, fitted once on training photographs (principal components, whitened).
    """

    def __init__(self, config: TowerConfig):
        super().__init__()
        self.config = config
        self.stem = _conv(3, LITE0_STEM, 3, stride=2)
        self.blocks = nn.ModuleList(Bottleneck(*block) for block in BLOCKS)
        self.reduce = nn.Linear(LITE0_FEATURES, config.width)

    def planes(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B T X"]:
        """All LITE0_FEATURES channels of each patch, row-major, before the reduction."""
        x = nn.functional.relu6(self.stem(pixels.to(self.reduce.weight.dtype)))
        found = {}
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in (LITE0_FINE, LITE0_MIDDLE, LATE, LITE0_COARSE):
                found[number] = x
        fine = rearrange(found[LITE0_FINE], "B X (R a) (C b) -> B (a b X) R C", a=2, b=2)
        coarse = nn.functional.interpolate(found[LITE0_COARSE], scale_factor=2.0, mode="nearest")
        plane = torch.cat([fine, found[LITE0_MIDDLE], found[LATE], coarse], dim=1)
        return rearrange(plane, "B X R C -> B (R C) X")

    def forward(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B T F"]:
        """Patch tokens of normalised pixels, row-major."""
        return self.reduce(self.planes(pixels))
