"""Families in the layout of LLaVA's released code: `config.json` of its language model with `mm_…` fields beside."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from emma_viz.data.prompts import PromptStyle, Turn, build_prompt
from emma_viz.errors import InputError
from emma_viz.files.schema import Size, shape
from emma_viz.models.attention_sites import ATTENTION_SITES
from emma_viz.models.backbones import VISION_BACKBONES
from emma_viz.models.config import MambaConfig, ProjectorConfig, ProjectorKind, ResizeStrategy, VLMConfig
from emma_viz.models.families.family import ImagePlace
from emma_viz.models.families.layout import Layout
from emma_viz.models.ranges import Depth, Epsilon, Width
from emma_viz.models.sites import Site
from emma_viz.models.vision_config import VisionConfig

LANGUAGE_MODEL = (
    ("model.embed_tokens.", "llm.backbone.embedding."),
    ("model.layers.", "llm.backbone.layers."),
    ("model.norm.", "llm.backbone.norm_f."),
    ("lm_head.", "llm.lm_head."),
)
"""transformers' Llama → ours."""
FROZEN = r"model\.vision_tower\..*|.*\.rotary_emb\.inv_freq"
"""What LLaVA's files hold beside: its frozen encoder, and rotary frequencies."""


@dataclass(frozen=True, kw_only=True)
class LlavaConfig:
    """The fields of such a `config.json` that are read; files hold more."""

    model_type: str
    hidden_size: Width
    intermediate_size: Width
    num_hidden_layers: Depth
    num_attention_heads: Width
    num_key_value_heads: Width | None = None
    vocab_size: Size
    rms_norm_eps: Epsilon
    rope_theta: float = 10_000.0
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    hidden_act: Literal["silu"] = "silu"
    rope_scaling: None = None
    mm_vision_tower: str
    mm_projector_type: str
    mm_vision_select_layer: Literal[-2]
    mm_vision_select_feature: Literal["patch"] = "patch"
    mm_use_im_start_end: Literal[False] = False
    image_aspect_ratio: Literal["pad", "square"] = "square"
    max_sequence_length: Size | None = None
    tokenizer_model_max_length: Size | None = None

    @property
    def llm(self) -> MambaConfig:
        """The language model."""
        return MambaConfig(
            d_model=self.hidden_size,
            n_layer=self.num_hidden_layers,
            vocab_size=self.vocab_size,
            pad_vocab_size_multiple=1,
            ssm="attention",
            norm_eps=self.rms_norm_eps,
            residual_in_fp32=False,
            q_heads=self.num_attention_heads,
            kv_heads=self.num_key_value_heads or self.num_attention_heads,
            mlp_width=self.intermediate_size,
            rope_base=self.rope_theta,
            tied=self.tie_word_embeddings,
        )

    @property
    def vision(self) -> VisionConfig:
        """The encoder, by its name.

        Raises:
            InputError: there is none of that name.
        """
        if self.mm_vision_tower not in VISION_BACKBONES:
            known = ", ".join(name for name in VISION_BACKBONES if "clip" in name)
            raise InputError(f"mm_vision_tower must be one of {known}; got {self.mm_vision_tower!r}.")
        return VISION_BACKBONES[self.mm_vision_tower]()

    @property
    def resize_strategy(self) -> ResizeStrategy:
        """CLIP's own preprocessing crops; "pad" is LLaVA's, which makes a square of the image first."""
        return "letterbox" if self.image_aspect_ratio == "pad" else "resize-crop"


def _whole(values: Mapping[str, Any], config: VLMConfig) -> VLMConfig:
    return config


@dataclass(frozen=True, kw_only=True)
class LlavaLikeFamily:
    """A family in LLaVA's layout; see `Family` for what is not said here."""

    name: str
    title: str
    claims: Callable[[Mapping[str, Any]], bool]
    """Whether a `config.json` is of the family."""
    layout: Layout
    projectors: Mapping[str, ProjectorKind]
    """The `mm_projector_type` of its members, and what each is here."""
    finished: Callable[[Mapping[str, Any], VLMConfig], VLMConfig] = _whole
    """What a `config.json` says beside what all such families have."""
    backbone_id: str = "vicuna"
    """Beginning of the names of its language models, which decides the tokenizer."""
    presets: Mapping[str, Callable[[], VLMConfig]] = field(default_factory=dict)
    published: Mapping[str, str] = field(default_factory=dict)
    unpublished: frozenset[str] = frozenset()
    missing: str = ""
    """What of it is open or not supported, for the table of models."""
    prompt_style: PromptStyle = "vicuna"
    sites: Mapping[str, Site] = field(default_factory=lambda: ATTENTION_SITES)
    image_tokens: ImagePlace = "placeholders"

    def describe(self, values: Mapping[str, Any]) -> VLMConfig | None:
        """The model of a `config.json`; None where it is not of the family.

        Raises:
            InputError: a field is missing, of another type, or not supported.
        """
        if not self.claims(values):
            return None
        read = shape(values, LlavaConfig, where=f"config.json ({self.name})", error=InputError, spare=True)
        if read.attention_bias:
            raise InputError("attention_bias must be false: LLaVA's language models have none.")
        if read.mm_projector_type not in self.projectors:
            raise InputError(
                f"mm_projector_type must be one of {', '.join(self.projectors)}; got {read.mm_projector_type!r}."
            )
        vision = read.vision
        config = VLMConfig(
            model_id=self.name,
            family=self.name,
            vision=vision,
            projector=ProjectorConfig(
                kind=self.projectors[read.mm_projector_type],
                pooled_grid=(vision.grid[0] // 2, vision.grid[1] // 2),
            ),
            llm=read.llm,
            llm_backbone_id=f"{self.backbone_id}-{read.num_hidden_layers}x{read.hidden_size}",
            resize_strategy=read.resize_strategy,
            max_length=read.tokenizer_model_max_length or read.max_sequence_length or 2048,
            prompt_style=self.prompt_style,
        )
        return self.finished(values, config)

    def member(self, model_id: str, values: Mapping[str, Any], llm_backbone_id: str) -> VLMConfig:
        """A preset, from what its `config.json` says.

        Raises:
            InputError: as `describe`.
        """
        config = self.describe(values)
        assert config is not None, f"{model_id} is not of {self.name}"
        return replace(config, model_id=model_id, llm_backbone_id=llm_backbone_id)

    def prompt(self, message: str | Sequence[Turn], config: VLMConfig) -> str:
        """What stands behind the image; what stands before it is `emma_viz.data.prompts.lead`."""
        return build_prompt(message, config.prompt_style)
