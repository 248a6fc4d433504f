"""Frozen descriptions of every part of a vision-language model.

The descriptions hold numbers and names alone: building a model from one needs no file, and two
equal descriptions build models with the same parameter names and shapes.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from emma_viz.data.prompts import PromptStyle
from emma_viz.errors import InputError

SSM = Literal["mamba1", "mamba2"]
TowerKind = Literal["dinov2", "siglip", "pocket"]
ProjectorKind = Literal["linear", "gelu-mlp", "fused-gelu-mlp", "fused-ldpnet"]
Family = Literal["cobra", "emma"]
ResizeStrategy = Literal["resize-naive", "resize-crop", "letterbox"]
LensForm = Literal["paper", "released"]
Grid = tuple[int, int]

PROJECTOR_KINDS: tuple[str, ...] = ("linear", "gelu-mlp", "fused-gelu-mlp", "fused-ldpnet")


@dataclass(frozen=True, kw_only=True)
class MambaConfig:
    """A Mamba language model (state-spaces/mamba, `mixer_seq_simple.MambaLMHeadModel`)."""

    d_model: int
    """Width D of the residual stream."""
    n_layer: int
    """Number of blocks."""
    vocab_size: int
    """Tokens the tokenizer knows; the tables are padded to a multiple of `pad_vocab_size_multiple`."""
    ssm: SSM = "mamba1"
    """Which mixer: Mamba-1 (selective scan) or Mamba-2 (SSD)."""
    pad_vocab_size_multiple: int = 8
    """The embedding table has a multiple of this many rows."""
    d_state: int = 16
    """State size N of each channel."""
    d_conv: int = 4
    """Width K of the causal convolution."""
    expand: int = 2
    """Inner width over d_model."""
    dt_rank: int | None = None
    """Rank of the step-size projection (Mamba-1); None means ceil(d_model / 16)."""
    headdim: int = 64
    """Channels P of a head (Mamba-2)."""
    ngroups: int = 1
    """Groups G that share B and C (Mamba-2)."""
    chunk_size: int = 256
    """Chunk of the official Mamba-2 kernel; the result does not depend on it."""
    norm_eps: float = 1e-5
    """Epsilon of the RMS norms."""
    residual_in_fp32: bool = True
    """Keep the residual stream in fp32 whatever the weights' type."""

    def __post_init__(self):
        for name in ("d_model", "n_layer", "vocab_size", "pad_vocab_size_multiple", "d_state", "expand"):
            if getattr(self, name) < 1:
                raise InputError(f"MambaConfig: {name} must be at least 1, got {getattr(self, name)}.")
        if self.d_conv < 2:
            raise InputError(f"MambaConfig: d_conv must be at least 2, got {self.d_conv}.")
        if self.ssm not in ("mamba1", "mamba2"):
            raise InputError(f'MambaConfig: ssm must be "mamba1" or "mamba2", got {self.ssm!r}.')
        if self.ssm == "mamba2" and self.d_inner % self.headdim:
            raise InputError(
                f"MambaConfig: expand · d_model = {self.d_inner} must be a multiple of "
                f"headdim = {self.headdim}."
            )
        if self.ssm == "mamba2" and self.n_heads % self.ngroups:
            raise InputError(
                f"MambaConfig: {self.n_heads} heads must be a multiple of ngroups = {self.ngroups}."
            )

    @property
    def d_inner(self) -> int:
        """Inner width E of a mixer."""
        return self.expand * self.d_model

    @property
    def n_heads(self) -> int:
        """Heads H of a Mamba-2 mixer."""
        return self.d_inner // self.headdim

    @property
    def rank(self) -> int:
        """Rank of the step-size projection of a Mamba-1 mixer."""
        return math.ceil(self.d_model / 16) if self.dt_rank is None else self.dt_rank

    @property
    def conv_width(self) -> int:
        """Channels of the causal convolution: E, and for Mamba-2 also B and C."""
        return self.d_inner + (2 * self.ngroups * self.d_state if self.ssm == "mamba2" else 0)

    @property
    def padded_vocab_size(self) -> int:
        """Rows V of the embedding table."""
        multiple = self.pad_vocab_size_multiple
        return math.ceil(self.vocab_size / multiple) * multiple


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """One frozen image encoder.

    `dinov2` and `siglip` are the transformers classes; `pocket` is the small convolutional encoder of
    `vision_pocket`, which ignores the transformer fields.
    """

    kind: TowerKind
    """The architecture."""
    width: int
    """Channels of a patch token."""
    patch: int
    """Side p of a patch, pixels."""
    image_size: int
    """Side S of the square input, pixels; S need not be a multiple of p, the rest is seen by no patch."""
    mean: tuple[float, float, float]
    """Channel means that the pixels in [0, 1] are normalised with."""
    std: tuple[float, float, float]
    """Channel standard deviations that the pixels are normalised with."""
    hub_id: str | None = None
    """Where the published weights are; None when there are none."""
    n_layer: int = 0
    """Transformer blocks."""
    n_heads: int = 0
    """Attention heads."""
    mlp_width: int = 0
    """Hidden width of the transformer's MLP."""
    n_registers: int = 0
    """Register tokens (DINOv2)."""
    activation: Literal["gelu", "gelu_pytorch_tanh"] = "gelu"
    """The MLP's activation. Exact GELU for both towers, SigLIP too: Cobra and EMMA were trained on timm's
    `vit_so400m_patch14_siglip_384`, which uses it, though SigLIP's own configuration names the tanh form."""

    def __post_init__(self):
        if self.image_size < self.patch:
            raise InputError(
                f"TowerConfig: image_size = {self.image_size} must be at least patch = {self.patch}."
            )
        if self.kind != "pocket" and (self.n_layer < 2 or not self.n_heads or not self.mlp_width):
            raise InputError(
                f"TowerConfig: a {self.kind} tower needs n_layer ≥ 2 (features come from the second-to-last "
                f"block), n_heads and mlp_width; got {self.n_layer}, {self.n_heads}, {self.mlp_width}."
            )
        if self.kind != "pocket" and self.width % self.n_heads:
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
class VisionConfig:
    """The frozen encoders of a model, their features concatenated in order."""

    backbone_id: str
    """The official name, e.g. `dinosiglip-vit-so-384px`."""
    towers: tuple[TowerConfig, ...]
    """The encoders; all see the same square image."""

    def __post_init__(self):
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


@dataclass(frozen=True, kw_only=True)
class ProjectorConfig:
    """The map from image features to the language model's width (Cobra, `nn_utils.py`)."""

    kind: ProjectorKind = "fused-gelu-mlp"
    """`linear`, `gelu-mlp` (2 layers), `fused-gelu-mlp` (3 layers) or `fused-ldpnet` (2 layers, pooled)."""
    hidden_multiplier: int = 4
    """Hidden width of the fused kinds over the features' width; the official value is 4."""
    pooled_grid: Grid = (14, 14)
    """Token grid that `fused-ldpnet` pools to."""
    positions: bool = False
    """Add learned row and column embeddings to the image tokens. Not part of the official models."""
    position_std: float = 1.2
    """Initial standard deviation of those embeddings."""
    cross_scan: bool = False
    """Scan the features in four orders before they are projected (the ablation CSM of the EMMA paper; see
    `cross_scan`). Not part of the released models."""
    scan_states: int = 16
    """State size of those scans."""

    def __post_init__(self):
        if self.scan_states < 1:
            raise InputError(f"ProjectorConfig: scan_states must be at least 1, got {self.scan_states}.")
        if self.kind not in PROJECTOR_KINDS:
            raise InputError(
                f"ProjectorConfig: kind must be one of {', '.join(PROJECTOR_KINDS)}; got {self.kind!r}."
            )

    def grid(self, features: Grid) -> Grid:
        """Grid of the image tokens that leave the projector, for features on the grid `features`."""
        return self.pooled_grid if self.kind == "fused-ldpnet" else features


@dataclass(frozen=True, kw_only=True)
class VLMConfig:
    """A vision-language model: frozen encoders, projector, Mamba language model."""

    model_id: str
    """The official model id, e.g. `cobra+3b`, or a preset's name."""
    family: Family
    """`cobra` (text loss only) or `emma` (also trained to reconstruct the image)."""
    vision: VisionConfig
    """The encoders."""
    projector: ProjectorConfig
    """The projector."""
    llm: MambaConfig
    """The language model."""
    llm_backbone_id: str
    """The official name of the language model; it decides the prompt style."""
    resize_strategy: ResizeStrategy = "resize-naive"
    """How an image becomes a square."""
    max_length: int = 2048
    """Longest text, tokens, that the model was trained on."""
    prompt_style: PromptStyle = "zephyr"
    """How a message becomes a prompt."""
    taps: tuple[int, ...] = ()
    """Blocks (zero-based) whose output feeds EMMA's fusion, before the final state; none for Cobra."""
    lens_form: LensForm | None = None
    """Form of the fusion and decoder the model was trained with; None for Cobra."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Free provenance (training settings and the like); no code reads it."""

    def __post_init__(self):
        if self.family not in ("cobra", "emma"):
            raise InputError(f'VLMConfig: family must be "cobra" or "emma", got {self.family!r}.')
        wrong = [tap for tap in self.taps if not 0 <= tap < self.llm.n_layer]
        if wrong or list(self.taps) != sorted(set(self.taps)):
            raise InputError(
                f"VLMConfig: taps must grow and lie in 0…{self.llm.n_layer - 1} (llm.n_layer − 1), "
                f"got {self.taps}."
            )

    @property
    def grid(self) -> Grid:
        """Rows and columns (R, C) of the image tokens in the language model."""
        return self.projector.grid(self.vision.grid)

    @property
    def n_image_tokens(self) -> int:
        """Image tokens T in front of the text."""
        return math.prod(self.grid)

    def to_dict(self) -> dict[str, Any]:
        """Plain, JSON-able form; `vlm_config_from_dict` reads it back."""
        return asdict(self)


def vlm_config_from_dict(values: dict[str, Any]) -> VLMConfig:
    """Rebuild a VLMConfig from `VLMConfig.to_dict()`, also after a trip through JSON.

    Raises:
        InputError: a field is missing or unknown.
    """
    try:
        towers = tuple(
            TowerConfig(**_with(tower, mean=tuple(tower["mean"]), std=tuple(tower["std"])))
            for tower in values["vision"]["towers"]
        )
        pooled_grid = tuple(values["projector"]["pooled_grid"])
        parts = _with(
            values,
            vision=VisionConfig(**_with(values["vision"], towers=towers)),
            projector=ProjectorConfig(**_with(values["projector"], pooled_grid=pooled_grid)),
            llm=MambaConfig(**values["llm"]),
            taps=tuple(values["taps"]),
        )
        return VLMConfig(**parts)
    except (KeyError, TypeError) as problem:
        raise InputError(f"The model description does not fit VLMConfig.to_dict(): {problem}.") from problem


def _with(values: dict[str, Any], **replaced: Any) -> dict[str, Any]:
    return {**values, **replaced}
