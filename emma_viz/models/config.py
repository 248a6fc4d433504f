"""Frozen descriptions of the parts of a vision-language model; those of its encoders are in `vision_config`.

The descriptions hold numbers and names alone: building a model from one needs no file, and two
equal descriptions build models with the same parameter names and shapes. What a field may be stands in its
annotation, for Python and for files alike.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import msgspec

from emma_viz.data.prompts import PromptStyle, lead
from emma_viz.errors import InputError
from emma_viz.files.schema import Size, require_ranges, shape
from emma_viz.models.ranges import DEEPEST, Depth, Epsilon, Factor, Grid, Label, Side, Width
from emma_viz.models.vision_config import VisionConfig

SSM = Literal["mamba1", "mamba2"]
Mixing = Literal["mamba1", "mamba2", "attention"]
ProjectorKind = Literal[
    "linear", "gelu-mlp", "fused-gelu-mlp", "fused-ldpnet", "ldpnet", "vss-l2", "patches"
]  # fmt: skip
ScanOrder = Literal["bidirectional", "cross"]
FamilyName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][\w.-]*$", max_length=60)]
"""The name of one of the families of `emma_viz.models.families`."""
ResizeStrategy = Literal["resize-naive", "resize-crop", "letterbox"]
LensForm = Literal["paper", "released"]

PROJECTOR_KINDS: tuple[str, ...] = (
    "linear", "gelu-mlp", "fused-gelu-mlp", "fused-ldpnet", "ldpnet", "vss-l2", "patches",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MambaConfig:
    """A language model: a Mamba (state-spaces/mamba, `mixer_seq_simple.MambaLMHeadModel`), or an attention
    transformer of Llama's form. Fields of one kind are not read for the others."""

    d_model: Width
    """Width D of the residual stream."""
    n_layer: Depth
    """Number of blocks."""
    vocab_size: Size
    """Tokens the tokenizer knows; the tables are padded to a multiple of `pad_vocab_size_multiple`."""
    ssm: Mixing = "mamba1"
    """What mixes tokens: Mamba-1 (selective scan), Mamba-2 (SSD) or causal attention."""
    pad_vocab_size_multiple: Width = 8
    """The embedding table has a multiple of this many rows."""
    d_state: Width = 16
    """State size N of each channel."""
    d_conv: Annotated[int, msgspec.Meta(ge=2, le=64)] = 4
    """Width K of the causal convolution."""
    expand: Factor = 2
    """Inner width over d_model."""
    dt_rank: Width | None = None
    """Rank of the step-size projection (Mamba-1); None means ceil(d_model / 16)."""
    headdim: Width = 64
    """Channels P of a head (Mamba-2)."""
    ngroups: Width = 1
    """Groups G that share B and C (Mamba-2)."""
    chunk_size: Width = 256
    """Chunk of the official Mamba-2 kernel; the result does not depend on it."""
    norm_eps: Epsilon = 1e-5
    """Epsilon of the RMS norms of the residual stream."""
    gated_norm_eps: Epsilon = 1e-5
    """Epsilon of the gated norm inside a Mamba-2 mixer; mamba_ssm has 1e-5 there whatever `norm_eps` is."""
    residual_in_fp32: bool = True
    """Keep the residual stream in fp32 whatever the weights' type."""
    q_heads: Width = 1
    """Query heads (attention)."""
    kv_heads: Width = 1
    """Key and value heads, each shared by as many query heads (attention)."""
    mlp_width: Width = 1
    """Inner width of a block's MLP (attention)."""
    rope_base: Annotated[float, msgspec.Meta(gt=1, le=1e9)] = 10_000.0
    """Base of the rotary positions (attention)."""
    parallel: bool = False
    """Blocks of Phi-2's form instead of Llama's (attention): attention and MLP side by side behind one layer norm, and
    all linear layers with biases, the head's too."""
    rotary_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    """Share of a head's channels that positions turn (attention)."""
    qkv_bias: bool = False
    """Whether queries, keys and values have biases (attention)."""
    tied: bool = True
    """Whether the head is the embedding again."""
    mamba_layers: Annotated[tuple[int, ...], msgspec.Meta(max_length=DEEPEST)] = ()
    """Blocks that have a Mamba-2 mixer in the place of attention, with a state as wide as a head. In the parallel form
    (MaTVLM) each head that attention had has a group of B and C; in the grouped one (mmMamba) heads share values and B
    as they did in attention, and have C of their own."""
    grouped: bool = False
    """Blocks of InternLM2's form instead of Llama's (attention): one layer makes queries, keys and values."""
    unit_layer: Annotated[int, msgspec.Meta(ge=0, le=DEEPEST)] | None = None
    """Grouped block before which each token of the stream is brought to the length 1 (`normalize_encoder_output`)."""

    def __post_init__(self):
        require_ranges(self, error=InputError)
        if self.ssm == "attention" and (self.d_model % (2 * self.q_heads) or self.q_heads % self.kv_heads):
            raise InputError(
                f"MambaConfig: d_model = {self.d_model} must split into q_heads = {self.q_heads} heads of an even "
                f"width, and these into kv_heads = {self.kv_heads} equal groups."
            )
        if self.parallel and (self.ssm != "attention" or self.tied or not self.qkv_bias):
            raise InputError(
                "MambaConfig: parallel is a form of attention whose head is its own and whose queries have biases: "
                "give ssm = 'attention', tied = False and qkv_bias = True."
            )
        wrong = [layer for layer in self.mamba_layers if not 0 <= layer < self.n_layer]
        if wrong or list(self.mamba_layers) != sorted(set(self.mamba_layers)):
            raise InputError(
                f"MambaConfig: mamba_layers must grow and lie in 0…{self.n_layer - 1}, got {self.mamba_layers}."
            )
        shares = self.parallel and self.kv_heads != self.q_heads
        if self.mamba_layers and (shares or not (self.parallel or self.grouped)):
            raise InputError(
                "MambaConfig: mamba_layers takes the place of attention in blocks of the grouped form, and in those of "
                "the parallel form whose heads share no keys: give grouped = True, or parallel = True and kv_heads = "
                "q_heads."
            )
        if self.grouped and (self.ssm != "attention" or self.tied or self.parallel or self.qkv_bias):
            raise InputError(
                "MambaConfig: grouped is a form of attention without biases whose head is its own: give ssm = "
                "'attention', tied = False, parallel = False and qkv_bias = False."
            )
        if self.unit_layer is not None and not (self.grouped and self.unit_layer < self.n_layer):
            raise InputError(
                f"MambaConfig: unit_layer = {self.unit_layer} must be a block of a model with grouped = True and "
                f"{self.n_layer} blocks."
            )
        if self.ssm != "attention" and not self.tied:
            raise InputError("MambaConfig: the head of a Mamba is its embedding; leave tied = True.")
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
    def mixer(self) -> "MambaConfig":
        """The Mamba-2 that takes the place of attention in `mamba_layers` of the parallel form."""
        head = self.d_model // self.q_heads
        return MambaConfig(
            d_model=self.d_model, n_layer=self.n_layer, vocab_size=self.vocab_size, ssm="mamba2", expand=1,
            headdim=head, d_state=head, ngroups=self.q_heads, d_conv=self.d_conv,
            gated_norm_eps=self.gated_norm_eps,
        )  # fmt: skip

    @property
    def mixer_layers(self) -> tuple[int, ...]:
        """Blocks that have a state-space mixer: all of a Mamba, `mamba_layers` of a hybrid, none of a transformer."""
        return self.mamba_layers if self.ssm == "attention" else tuple(range(self.n_layer))

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

    def differences(self, other: "MambaConfig") -> tuple[str, ...]:
        """What of another description would make other numbers of the same weights, in words; the rows of the table
        of tokens are not looked at, as their size tells."""
        one, two = ({**asdict(each), "dt_rank": each.rank} for each in (self, other))
        ignored = {"vocab_size", "pad_vocab_size_multiple", "chunk_size"}
        if self.ssm != "attention":
            ignored |= {
                "q_heads",
                "kv_heads",
                "mlp_width",
                "rope_base",
                "qkv_bias",
                "parallel",
                "rotary_share",
                "grouped",
                "unit_layer",
            }
        if self.ssm == other.ssm:
            ignored |= {"headdim", "ngroups", "gated_norm_eps"} if self.ssm == "mamba1" else {"dt_rank"}
        return tuple(
            f"{name} is {one[name]}, expected {two[name]}"
            for name in one
            if name not in ignored and one[name] != two[name]
        )

    @property
    def padded_vocab_size(self) -> int:
        """Rows V of the embedding table."""
        multiple = self.pad_vocab_size_multiple
        return math.ceil(self.vocab_size / multiple) * multiple


@dataclass(frozen=True, kw_only=True)
class ProjectorConfig:
    """The map from image features to the language model's width (Cobra, `nn_utils.py`)."""

    kind: ProjectorKind = "fused-gelu-mlp"
    """`linear`, `gelu-mlp` (2 layers), `fused-gelu-mlp` (3 layers), `fused-ldpnet` (2 layers, pooled),
    `ldpnet` (the same with the language model's width between its layers: MobileVLM's LDPv2), `vss-l2` (VL-Mamba) or
    `patches` (mmMamba: an embedding of bare patches, and 2 layers over each square of four)."""
    vss_scan: ScanOrder = "bidirectional"
    """Orders in which `vss-l2` reads the image."""
    hidden_multiplier: Factor = 4
    """Hidden width of the fused kinds over the features' width; the official value is 4."""
    pooled_grid: tuple[Side, Side] = (14, 14)
    """Token grid that the pooled kinds pool to."""
    positions: bool = False
    """Add learned row and column embeddings to the image tokens. Not part of the official models."""
    position_std: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 1.2
    """Initial standard deviation of those embeddings."""
    cross_scan: bool = False
    """Scan the features in four orders before they are projected (the ablation CSM of the EMMA paper; see
    `cross_scan`). Not part of the released models."""
    scan_states: Width = 16
    """State size of those scans."""
    bidirectional: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    """Mamba-2 blocks that read the image in both directions before it is projected, brought to the language model's
    width first (ML-Mamba's connector has two). Their sizes are the language model's."""
    infused: bool = False
    """Mix the instruction's states into the image's before they are projected: one linear layer over the tokens of both
    (arXiv 2410.02080). Needs `VisionConfig.text`."""
    learned_tokens: bool = False
    """Add a learned vector to each mixed token (`encoder_version` v3 of that paper's code)."""

    def __post_init__(self):
        require_ranges(self, error=InputError)

    def grid(self, features: Grid) -> Grid:
        """Grid of the image tokens that leave the projector, for features on the grid `features`.

        Raises:
            InputError: it would be pooled to a larger one.
        """
        if self.kind == "patches":
            if features[0] % 2 or features[1] % 2:
                raise InputError(
                    f"ProjectorConfig: patches makes a token of each 2×2 of the grid, and {features[0]}×"
                    f"{features[1]} has an odd side."
                )
            return features[0] // 2, features[1] // 2
        if not self.kind.endswith("ldpnet"):
            return features
        if any(pooled > given for pooled, given in zip(self.pooled_grid, features, strict=True)):
            raise InputError(
                f"ProjectorConfig: {self.kind} cannot pool a {features[0]}×{features[1]} grid up to pooled_grid = "
                f"{self.pooled_grid[0]}×{self.pooled_grid[1]}; make pooled_grid smaller."
            )
        return self.pooled_grid


@dataclass(frozen=True, kw_only=True)
class VLMConfig:
    """A vision-language model: frozen encoders, projector, Mamba language model."""

    model_id: Label
    """The official model id, e.g. `cobra+3b`, or a preset's name."""
    family: FamilyName
    """The family that the model is of, such as `cobra` or `emma`."""
    vision: VisionConfig
    """The encoders."""
    projector: ProjectorConfig
    """The projector."""
    llm: MambaConfig
    """The language model."""
    llm_backbone_id: Label
    """The official name of the language model; it decides the prompt style."""
    resize_strategy: ResizeStrategy = "resize-naive"
    """How an image becomes a square."""
    max_length: Size = 2048
    """Longest text, tokens, that the model was trained on."""
    prompt_style: PromptStyle = "zephyr"
    """How a message becomes a prompt."""
    taps: Annotated[tuple[int, ...], msgspec.Meta(max_length=64)] = ()
    """Blocks (zero-based) whose output feeds EMMA's fusion, before the final state; none for Cobra."""
    lens_form: LensForm | None = None
    """Form of the fusion and decoder the model was trained with; None for Cobra."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Free provenance (training settings and the like); no code reads it."""

    def __post_init__(self):
        require_ranges(self, error=InputError)
        self.projector.grid(self.vision.grid)
        if self.projector.infused != (self.vision.text is not None):
            raise InputError(
                "VLMConfig: projector.infused mixes the states of vision.text into the image; give both or neither."
            )
        if lead(self.prompt_style) and self.llm.ssm != "attention":
            raise InputError(
                f"VLMConfig: prompt_style {self.prompt_style} puts text before the image, which is supported for "
                f"attention alone; llm.ssm is {self.llm.ssm}."
            )
        if self.projector.bidirectional and self.llm.ssm != "mamba2":
            raise InputError(
                "VLMConfig: projector.bidirectional builds Mamba-2 blocks of the language model's sizes, and llm.ssm "
                f"is {self.llm.ssm}; choose a Mamba-2, or bidirectional = 0."
            )
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
    def patch(self) -> int:
        """Side of an image token on the model's square, pixels. Where patches are pooled, its share of all that they
        see: 27 for Cobra's 27×27 patches of 14 that become 14×14 tokens, whose means reach up to a patch further. Where
        no square of whole pixels is its share, that of a patch, and nothing is decoded of such tokens."""
        pixels = [self.vision.patch * count for count in self.vision.grid]
        (high, cut), (wide, left) = (divmod(*each) for each in zip(pixels, self.grid, strict=True))
        return self.vision.patch if cut or left or high != wide else wide

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
        InputError: a field is missing, unknown, of another type or out of its range.
    """
    return shape(values, VLMConfig, where="the description of the model", error=InputError)
