"""Projectors from image features to the language model's width (Cobra, `cobra/util/nn_utils.py`).

Every kind keeps its layers in one attribute `projector`, with the indices of the released code, so that
a released checkpoint's keys fit as they are.
"""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from emma_viz.kernels import linear
from emma_viz.models.config import MambaConfig, ProjectorConfig
from emma_viz.models.cross_scan import CrossScan
from emma_viz.models.infusion import Infusion
from emma_viz.models.linear import use_kernels
from emma_viz.models.mixers.bidirectional import BidirectionalMamba
from emma_viz.models.ranges import Grid
from emma_viz.models.vision_config import TextTowerConfig
from emma_viz.models.vss import VssConnector


class TokenPool(nn.Module):
    """Average-pool a square token grid to `grid`; cells overlap where the sizes do not divide."""

    def __init__(self, source: Grid, grid: Grid):
        super().__init__()
        self.source = source
        self.pool = nn.AdaptiveAvgPool2d(grid)

    def forward(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B t D"]:
        """T tokens to t, row by row; the mean of each cell."""
        plane = rearrange(tokens, "B (R C) D -> B D R C", R=self.source[0])
        return rearrange(self.pool(plane), "B D R C -> B (R C) D")


class LocalPositions(nn.Module):
    """Add a depthwise 3×3 convolution of the token grid (the position encoding generator of Twins)."""

    def __init__(self, width: int, grid: Grid):
        super().__init__()
        self.grid = grid
        self.peg = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, groups=width))

    def forward(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """The tokens, each with what its neighbours add to it."""
        plane = rearrange(tokens, "B (R C) D -> B D R C", R=self.grid[0])
        return rearrange(plane + self.peg(plane), "B D R C -> B (R C) D")


class BarePatches(nn.Module):
    """Pixels of each patch → one state a patch: a convolution, and learned positions, whose first row is the class
    token's, which mmMamba never shows its language model."""

    def __init__(self, width: int, patch: int, patches: int, *, backend: str):
        super().__init__()
        self.backend = backend
        self.position_embedding = nn.Parameter(torch.randn(1, patches + 1, width))
        self.patch_embedding = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, pixels: Float[Tensor, "B T F"]) -> Float[Tensor, "B T D"]:
        """Row by row; `F` is channel, row and column of a patch."""
        convolution = self.patch_embedding
        embedded = linear(pixels, convolution.weight.flatten(1), convolution.bias, backend=self.backend)
        return embedded + self.position_embedding[:, 1:]


class ShuffledPatches(nn.Module):
    """The image's way into a model without an encoder (mmMamba, `pixel_shuffle_loc` "pre"): patches are embedded, four
    in a square become the channels of one token, and two layers bring these to the width."""

    def __init__(self, width: int, patch: int, grid: Grid, *, backend: str):
        super().__init__()
        self.columns = grid[1]
        self.patches = BarePatches(width, patch, grid[0] * grid[1], backend=backend)
        self.mlp = nn.Sequential(nn.Linear(4 * width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, pixels: Float[Tensor, "B T F"]) -> Float[Tensor, "B t D"]:
        """T patches to t = T/4 tokens, row by row."""
        embedded = self.patches(pixels)
        squares = rearrange(embedded, "B (R i C j) D -> B (R C) (i j D)", i=2, j=2, C=self.columns // 2)
        return self.mlp(squares)


class Projector(nn.Module):
    """Image features → image tokens.

    Args:
        config: the kind and its settings.
        features: channels F of the features.
        width: d_model of the language model.
        grid: rows and columns of the features.
        mixer: sizes of bidirectional blocks, where there are some.
        text: the encoder of the instruction, where it is mixed in.
        backend: kernel backend of the linear layers, and of the scans, where there are some.
    """

    def __init__(
        self,
        config: ProjectorConfig,
        *,
        features: int,
        width: int,
        grid: Grid,
        mixer: MambaConfig | None = None,
        text: TextTowerConfig | None = None,
        backend: str = "auto",
    ):
        super().__init__()
        self.config = config
        self.grid = config.grid(grid)
        scanned = features
        if config.infused:
            assert text is not None, "an instruction has states"
            self.infusion = Infusion(features, grid[0] * grid[1], text=text, learned=config.learned_tokens)
        if config.bidirectional:
            assert mixer is not None, "bidirectional blocks have sizes"
            self.mlp = nn.Sequential(nn.Linear(features, width), nn.GELU())
            self.bidirectional_mamba = BidirectionalMamba(mixer, config.bidirectional, backend=backend)
            features = width
        if config.kind == "vss-l2":
            self.projector = VssConnector(features, width, grid, scan=config.vss_scan, backend=backend)
        elif config.kind == "patches":
            self.projector = ShuffledPatches(width, math.isqrt(features // 3), grid, backend=backend)
        else:
            self.projector = _BUILDERS[config.kind](config, features, width, grid)
        if config.positions:
            rows, columns = self.grid
            self.row = nn.Parameter(torch.empty(rows, width).normal_(std=config.position_std))
            self.col = nn.Parameter(torch.empty(columns, width).normal_(std=config.position_std))
        if config.cross_scan:
            # Drawn from a copy of the generator: under one seed, all other weights of a model with the
            # cross-scan are those of the model without it.
            with torch.random.fork_rng(devices=[]):
                self.scan = CrossScan(scanned, grid, d_state=config.scan_states, backend=backend)
        use_kernels(self, backend=backend)

    def forward(
        self, features: Float[Tensor, "B T F"], text: Float[Tensor, "B s W"] | None = None
    ) -> Float[Tensor, "B t D"]:
        """Project features, cast to the projector's type; the pooled kinds return fewer tokens.

        Args:
            features: of the image.
            text: states of the instruction, where it is mixed in (`VisionEncoder.read`).
        """
        kind = next(self.projector.parameters()).dtype
        features = features.to(kind)
        if self.config.infused:
            assert text is not None, "VisionEncoder.read makes sure of it"
            features = self.infusion(features, text.to(kind))
        if self.config.cross_scan:
            features = self.scan(features)
        if self.config.bidirectional:
            features = self.bidirectional_mamba(self.mlp(features))
        tokens = self.projector(features)
        if self.config.positions:
            place = self.row[:, None, :] + self.col[None, :, :]
            tokens = tokens + rearrange(place, "R C D -> (R C) D")
        return tokens


def _linear(config: ProjectorConfig, features: int, width: int, grid: Grid) -> nn.Module:
    return nn.Linear(features, width)


def _gelu_mlp(config: ProjectorConfig, features: int, width: int, grid: Grid) -> nn.Module:
    return nn.Sequential(nn.Linear(features, width), nn.GELU(), nn.Linear(width, width))


def _fused_gelu_mlp(config: ProjectorConfig, features: int, width: int, grid: Grid) -> nn.Module:
    hidden = config.hidden_multiplier * features
    return nn.Sequential(
        nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, width), nn.GELU(), nn.Linear(width, width)
    )


def _fused_ldpnet(config: ProjectorConfig, features: int, width: int, grid: Grid) -> nn.Module:
    hidden = config.hidden_multiplier * features
    return nn.Sequential(
        nn.Linear(features, hidden),
        nn.GELU(),
        nn.Linear(hidden, width),
        TokenPool(grid, config.pooled_grid),
        LocalPositions(width, config.pooled_grid),
    )


def _ldpnet(config: ProjectorConfig, features: int, width: int, grid: Grid) -> nn.Module:
    return nn.Sequential(
        nn.Linear(features, width),
        nn.GELU(),
        nn.Linear(width, width),
        TokenPool(grid, config.pooled_grid),
        LocalPositions(width, config.pooled_grid),
    )


_BUILDERS = {
    "linear": _linear,
    "gelu-mlp": _gelu_mlp,
    "fused-gelu-mlp": _fused_gelu_mlp,
    "fused-ldpnet": _fused_ldpnet,
    "ldpnet": _ldpnet,
}
