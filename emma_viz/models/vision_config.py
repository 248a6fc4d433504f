"""Frozen descriptions of the encoders of images and instructions."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from emma_viz.errors import InputError
from emma_viz.files.schema import Size, require_ranges
from emma_viz.models.ranges import BROADEST, DEEPEST, Depth, Grid, HubId, Label, Side, Spread, Width

TowerKind = Literal["dinov2", "siglip", "clip", "pocket", "lite0", "patches"]
MOST_PATCHES = 2**16
"""Patches of the finest grid; published encoders have at most 2**12."""
Shade = Annotated[float, msgspec.Meta(ge=-100, le=100)]


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """One frozen image encoder.

    `dinov2`, `siglip` and `clip` are the transformers classes; `pocket` is the small convolutional encoder of
    `emma_viz.models.towers.pocket` and `lite0` the ImageNet classifier of `emma_viz.models.towers.lite0`; `patches` is
    none: it gives the pixels of each patch as they are (mmMamba). These three ignore the transformer fields.
    """

    kind: TowerKind
    """The architecture."""
    width: Width
    """Channels of a patch token."""
    patch: Side
    """Side p of a patch, pixels."""
    image_size: Side
    """Side S of the square input, pixels; S need not be a multiple of p, the rest is seen by no patch."""
    mean: tuple[Shade, Shade, Shade]
    """Channel means that the pixels in [0, 1] are normalised with."""
    std: tuple[Spread, Spread, Spread]
    """Channel standard deviations that the pixels are normalised with."""
    hub_id: HubId | None = None
    """Where the published weights are; None when there are none."""
    n_layer: Annotated[int, msgspec.Meta(ge=0, le=DEEPEST)] = 0
    """Transformer blocks."""
    n_heads: Annotated[int, msgspec.Meta(ge=0, le=BROADEST)] = 0
    """Attention heads."""
    mlp_width: Annotated[int, msgspec.Meta(ge=0, le=BROADEST)] = 0
    """Hidden width of the transformer's MLP."""
    n_registers: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    """Register tokens (DINOv2)."""
    activation: Literal["gelu", "gelu_pytorch_tanh", "quick_gelu"] = "gelu"
    """The MLP's activation. Exact GELU for both towers of Cobra and EMMA, SigLIP too: these were trained on timm's
    `vit_so400m_patch14_siglip_384`, which uses it, though SigLIP's own configuration names the tanh form."""

    def __post_init__(self):
        require_ranges(self, error=InputError)
        if not 1 <= math.prod(self.grid) <= MOST_PATCHES:
            raise InputError(
                f"TowerConfig: image_size = {self.image_size} must hold at least 1 and at most {MOST_PATCHES} patches "
                f"of patch = {self.patch} pixels; it holds {math.prod(self.grid)}."
            )
        if self.kind == "pocket" and (self.patch != 8 or self.image_size % 16):
            raise InputError(
                "TowerConfig: the pocket encoder needs patch = 8 and an image_size that is a multiple of 16, "
                f"got patch = {self.patch} and image_size = {self.image_size}."
            )
        if self.kind == "lite0" and (self.patch != 16 or self.image_size % 32):
            raise InputError(
                "TowerConfig: the lite0 encoder needs patch = 16 and an image_size that is a multiple of 32, "
                f"got patch = {self.patch} and image_size = {self.image_size}."
            )
        if self.kind == "patches" and (self.width != 3 * self.patch**2 or self.image_size % self.patch):
            raise InputError(
                f"TowerConfig: patches gives the 3·{self.patch}² pixels of each patch, and has no rest: give width = "
                f"{3 * self.patch**2} and an image_size that is a multiple of patch = {self.patch}."
            )
        transformer = self.kind in ("dinov2", "siglip", "clip")
        if transformer and (self.n_layer < 2 or not self.n_heads or not self.mlp_width):
            raise InputError(
                f"TowerConfig: a {self.kind} tower needs n_layer ≥ 2 (features come from the second-to-last "
                f"block), n_heads and mlp_width; got {self.n_layer}, {self.n_heads}, {self.mlp_width}."
            )
        if transformer and self.width % self.n_heads:
            raise InputError(
                f"TowerConfig: width = {self.width} must be a multiple of n_heads = {self.n_heads}."
            )
        if self.kind == "dinov2" and self.mlp_width % self.width:
            raise InputError(
                f"TowerConfig: DINOv2's mlp_width = {self.mlp_width} must be a multiple of "
                f"width = {self.width}."
            )

    @property
    def grid(self) -> Grid:
        """Rows and columns (R, C) of patches."""
        side = self.image_size // self.patch
        return side, side


@dataclass(frozen=True, kw_only=True)
class TextTowerConfig:
    """A frozen encoder of the instruction (CLIP's text transformer), beside those of the image."""

    width: Width
    """Channels of its states."""
    n_layer: Depth
    """Transformer blocks."""
    n_heads: Width
    """Attention heads."""
    mlp_width: Width
    """Hidden width of the MLP."""
    vocab_size: Size
    """Rows of its table of tokens."""
    context: Annotated[int, msgspec.Meta(ge=2, le=1024)] = 77
    """Tokens of an instruction, padding included."""
    layer: Annotated[int, msgspec.Meta(ge=-DEEPEST, le=-1)] = -1
    """Whose states are taken: -1 those after the last block, -2 those before it. No final norm is applied."""
    start: bool = True
    """Whether the state of the start token is among them."""
    end: bool = True
    """Whether those of the other tokens are."""
    activation: Literal["gelu", "quick_gelu"] = "quick_gelu"
    """The MLP's activation."""
    hub_id: HubId | None = None
    """Where the published weights and `tokenizer.json` are; None when there are none."""

    def __post_init__(self):
        require_ranges(self, error=InputError)
        if self.width % self.n_heads or self.layer < -self.n_layer or not (self.start or self.end):
            raise InputError(
                f"TextTowerConfig: width = {self.width} must be a multiple of n_heads = {self.n_heads}, layer = "
                f"{self.layer} one of -1…-{self.n_layer}, and start or end true, or no token is left."
            )

    @property
    def n_tokens(self) -> int:
        """States of an instruction."""
        return self.start + self.end * (self.context - 1)


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """The frozen encoders of a model, their features concatenated in order."""

    backbone_id: Label
    """The official name, e.g. `dinosiglip-vit-so-384px`."""
    towers: tuple[TowerConfig, ...]
    """The encoders; all see the same square image."""
    text: TextTowerConfig | None = None
    """The encoder of the instruction, for models whose image tokens depend on it."""

    def __post_init__(self):
        require_ranges(self, error=InputError)
        if not self.towers:
            raise InputError("VisionConfig: towers is empty; give at least one TowerConfig.")
        if len({(tower.image_size, tower.patch) for tower in self.towers}) > 1:
            raise InputError(
                "VisionConfig: all towers must share image_size and patch, or their tokens differ."
            )
        if len({tower.kind for tower in self.towers}) < len(self.towers):
            raise InputError("VisionConfig: two towers have the same kind; parameter names would collide.")

    @property
    def image_size(self) -> int:
        """Side S of the model's square input, pixels."""
        return self.towers[0].image_size

    @property
    def patch(self) -> int:
        """Side p of a patch, pixels."""
        return self.towers[0].patch

    @property
    def width(self) -> int:
        """Channels F of the concatenated features."""
        return sum(tower.width for tower in self.towers)

    @property
    def grid(self) -> Grid:
        """Rows and columns (R, C) of patches."""
        return self.towers[0].grid
