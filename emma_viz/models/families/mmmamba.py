"""mmMamba (arXiv 2502.13145): InternLM2 that reads patches, attention distilled to Mamba-2 in all or most blocks.

By the classes beside its weights and github hustvl/mmMamba. An embedding module of 8 blocks of the language model's own
form sees text and patches, and its own 24 go on from there: here these are 32 blocks of one stream.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import msgspec

from emma_viz.data.prompts import Turn, build_prompt
from emma_viz.errors import InputError
from emma_viz.files.schema import Size, shape
from emma_viz.models.attention_sites import GROUPED_SITES
from emma_viz.models.backbones import IMAGENET_MEAN, IMAGENET_STD, POCKET_VOCABULARY
from emma_viz.models.config import MambaConfig, ProjectorConfig, VLMConfig
from emma_viz.models.families.family import ImagePlace
from emma_viz.models.families.layout import Layout
from emma_viz.models.ranges import DEEPEST, Depth, Epsilon, Side, Width
from emma_viz.models.sites import Site
from emma_viz.models.vision_config import TowerConfig, VisionConfig

EMBEDDING_BLOCKS = 8
"""Blocks of the embedding module; the released class counts those of its language model from here."""
Mixers = Annotated[tuple[Literal["mha", "mamba2"], ...], msgspec.Meta(max_length=DEEPEST)]


@dataclass(frozen=True, kw_only=True)
class _Blocks:
    """What the configurations of both modules say of their blocks; files hold more."""

    hidden_size: Width
    intermediate_size: Width
    num_hidden_layers: Depth
    num_attention_heads: Width
    num_key_value_heads: Width
    layers_block_type: Mixers
    rms_norm_eps: Epsilon
    rope_theta: float = 10_000.0
    rope_scaling: None = None
    hidden_act: Literal["silu"] = "silu"


@dataclass(frozen=True, kw_only=True)
class _Embedding(_Blocks):
    """`embedding_config`."""

    llm_vocab_size: Size
    image_size: Side
    patch_size: Side
    downsample_ratio: float = 0.5
    use_pixel_shuffle_proj: Literal[True]
    pixel_shuffle_loc: Literal["pre"] = "pre"
    special_token_maps: Annotated[dict[str, int], msgspec.Meta(max_length=0)] = field(default_factory=dict)
    use_ls: Literal[False] = False
    attention_bias: Literal[False] = False


@dataclass(frozen=True, kw_only=True)
class _Language(_Blocks):
    """`llm_config`."""

    vocab_size: Size
    tie_word_embeddings: Literal[False] = False
    bias: Literal[False] = False


@dataclass(frozen=True, kw_only=True)
class _Chat:
    """The fields of its `config.json` that are read."""

    embedding_config: _Embedding
    llm_config: _Language
    force_image_size: Side | None = None
    downsample_ratio: float = 0.5
    normalize_encoder_output: bool = False
    template: Literal["internlm2-chat"] = "internlm2-chat"

    @property
    def llm(self) -> MambaConfig:
        """The blocks of both modules, as one language model.

        Raises:
            InputError: the modules differ where one language model cannot.
        """
        first, second = self.embedding_config, self.llm_config
        same = (
            "hidden_size",
            "intermediate_size",
            "num_attention_heads",
            "num_key_value_heads",
            "rms_norm_eps",
        )
        turned = "mha" in first.layers_block_type and "mha" in second.layers_block_type
        for name in (*same, *(["rope_theta"] if turned else [])):
            if getattr(first, name) != getattr(second, name):
                raise InputError(
                    f"embedding_config and llm_config must have the same {name}; got {getattr(first, name)} and "
                    f"{getattr(second, name)}."
                )
        if first.num_hidden_layers != EMBEDDING_BLOCKS or first.llm_vocab_size != second.vocab_size:
            raise InputError(
                f"embedding_config must have {EMBEDDING_BLOCKS} blocks and as many tokens as llm_config "
                f"({second.vocab_size}); got {first.num_hidden_layers} and {first.llm_vocab_size}."
            )
        for each in (first, second):
            if len(each.layers_block_type) != each.num_hidden_layers:
                raise InputError(
                    f"layers_block_type must name the mixer of each of {each.num_hidden_layers} blocks; it names "
                    f"{len(each.layers_block_type)}."
                )
        mixers = (*first.layers_block_type, *second.layers_block_type)
        return MambaConfig(
            d_model=second.hidden_size,
            n_layer=len(mixers),
            vocab_size=second.vocab_size,
            pad_vocab_size_multiple=1,
            ssm="attention",
            d_conv=2,
            norm_eps=second.rms_norm_eps,
            residual_in_fp32=False,
            q_heads=second.num_attention_heads,
            kv_heads=second.num_key_value_heads,
            mlp_width=second.intermediate_size,
            rope_base=(first if "mha" in first.layers_block_type else second).rope_theta,
            tied=False,
            grouped=True,
            mamba_layers=tuple(layer for layer, mixer in enumerate(mixers) if mixer == "mamba2"),
            unit_layer=EMBEDDING_BLOCKS if self.normalize_encoder_output else None,
        )

    @property
    def vision(self) -> VisionConfig:
        """The pixels of an image's patches."""
        read = self.embedding_config
        side = self.force_image_size or read.image_size
        if (self.downsample_ratio, read.downsample_ratio, side) != (0.5, 0.5, read.image_size):
            raise InputError(
                f"downsample_ratio must be 0.5 and force_image_size the image_size of embedding_config; got "
                f"{self.downsample_ratio}, {read.downsample_ratio} and {side} for {read.image_size}."
            )
        tower = TowerConfig(
            kind="patches", width=3 * read.patch_size**2, patch=read.patch_size, image_size=side,
            mean=IMAGENET_MEAN, std=IMAGENET_STD,
        )  # fmt: skip
        return VisionConfig(backbone_id=f"patches-{side}px", towers=(tower,))


_LAYOUT = Layout(
    name="mmMamba",
    prefixes=(
        ("embedding_model.llm_text_embeddings.", "llm.backbone.embedding."),
        *(
            (f"language_model.model.layers.{layer}.", f"llm.backbone.layers.{layer + EMBEDDING_BLOCKS}.")
            for layer in range(DEEPEST - EMBEDDING_BLOCKS)
        ),
        ("embedding_model.encoder.", "llm.backbone.layers."),
        ("language_model.model.norm.", "llm.backbone.norm_f."),
        ("language_model.output.", "llm.lm_head."),
        ("embedding_model.vision_embeddings.", "projector.projector.patches."),
        ("embedding_model.pixel_shuffle_proj.", "projector.projector.mlp."),
    ),
    signature=("embedding_model.",),
    components=("projector", "llm"),
    unread=r"embedding_model\.vision_embeddings\.class_embedding|language_model\.model\.tok_embeddings\..*",
)


@dataclass(frozen=True, kw_only=True)
class MmMambaFamily:
    """See `Family`. An image is one tile, squashed to a square (`max_num = 1` of the released code)."""

    name: str = "mmmamba"
    title: str = (
        "no encoder: patches and text through InternLM2 with a Mamba-2 for attention in most blocks, or all"
    )
    image_tokens: ImagePlace = "placeholders"
    layout: Layout = _LAYOUT
    sites: Mapping[str, Site] = field(default_factory=lambda: GROUPED_SITES)
    presets: Mapping[str, Callable[[], VLMConfig]] = field(default_factory=dict)
    published: Mapping[str, str] = field(default_factory=dict)
    unpublished: frozenset[str] = frozenset()
    missing: str = ""
    """What of it is open or not supported, for the table of models."""

    def describe(self, values: Mapping[str, Any]) -> VLMConfig | None:
        """The model of a `config.json`; None where it is not of the family.

        Raises:
            InputError: a field is missing, of another type, or not supported.
        """
        if values.get("model_type") != "mmMamba_chat":
            return None
        read = shape(values, _Chat, where="config.json (mmMamba)", error=InputError, spare=True)
        llm = read.llm
        return VLMConfig(
            model_id=self.name,
            family=self.name,
            vision=read.vision,
            projector=ProjectorConfig(kind="patches"),
            llm=llm,
            llm_backbone_id=f"internlm2-{llm.n_layer}x{llm.d_model}",
            max_length=8192,
            prompt_style="internlm2",
        )

    def prompt(self, message: str | Sequence[Turn], config: VLMConfig) -> str:
        """What stands behind the image; what stands before it is `emma_viz.data.prompts.lead`."""
        return build_prompt(message, config.prompt_style)

    def member(self, model_id: str, values: Mapping[str, Any], llm_backbone_id: str) -> VLMConfig:
        """A preset, from what its `config.json` says.

        Raises:
            InputError: as `describe`.
        """
        config = self.describe(values)
        assert config is not None, "it names its own family"
        return replace(config, model_id=model_id, llm_backbone_id=llm_backbone_id)


def mmmamba_linear() -> VLMConfig:
    """mmMamba-linear 2.7B (`hustvl/mmMamba-linear`): a Mamba-2 in every block."""
    return MMMAMBA.member("mmmamba-linear-2.7b", chat_values(attention=()), "internlm2-1.8b")


def mmmamba_hybrid() -> VLMConfig:
    """mmMamba-hybrid 2.7B (`hustvl/mmMamba_hybrid`): attention in every fourth block, as its training has it."""
    return MMMAMBA.member("mmmamba-hybrid-2.7b", chat_values(attention=range(0, 32, 4)), "internlm2-1.8b")


def tiny_mmmamba() -> VLMConfig:
    """A hybrid for tests: 8 blocks of width 32 and one behind them, attention in the first and the last."""
    return MMMAMBA.member(
        "tiny-mmmamba", chat_values(attention=(0, 8), blocks=1, width=32, inner=48, heads=4, shared=2, side=56,
                                    tokens=POCKET_VOCABULARY), "tiny-internlm2",
    )  # fmt: skip


def chat_values(
    *,
    attention: Sequence[int],
    blocks: int = 24,
    width: int = 2048,
    inner: int = 8192,
    heads: int = 16,
    shared: int = 8,
    side: int = 448,
    tokens: int = 92553,
) -> dict[str, Any]:
    """A `config.json` of the released form.

    Args:
        attention: blocks with attention, counted through both modules; the others have a Mamba-2.
        blocks: of the language model, behind the embedding module's.
        width: of the stream.
        inner: of the MLPs.
        heads: of queries.
        shared: of keys and values.
        side: of the image, pixels.
        tokens: of the vocabulary.
    """
    mixers = ["mha" if layer in attention else "mamba2" for layer in range(EMBEDDING_BLOCKS + blocks)]
    both = {
        "hidden_size": width, "intermediate_size": inner, "num_attention_heads": heads, "num_key_value_heads": shared,
        "rms_norm_eps": 1e-5, "rope_theta": 1e6, "hidden_act": "silu",
    }  # fmt: skip
    embedding = {
        "num_hidden_layers": EMBEDDING_BLOCKS, "layers_block_type": mixers[:EMBEDDING_BLOCKS], "llm_vocab_size": tokens,
        "image_size": side, "patch_size": 14, "use_pixel_shuffle_proj": True, "use_ls": False,
    }  # fmt: skip
    language = {
        "num_hidden_layers": blocks,
        "layers_block_type": mixers[EMBEDDING_BLOCKS:],
        "vocab_size": tokens,
    }
    return {
        "model_type": "mmMamba_chat",
        "template": "internlm2-chat",
        "embedding_config": {**both, **embedding},
        "llm_config": {**both, **language},
    }


MMMAMBA = MmMambaFamily(
    presets={
        "mmmamba-linear-2.7b": mmmamba_linear,
        "mmmamba-hybrid-2.7b": mmmamba_hybrid,
        "tiny-mmmamba": tiny_mmmamba,
    },
    published={
        "mmmamba-linear-2.7b": "hustvl/mmMamba-linear",
        "mmmamba-hybrid-2.7b": "hustvl/mmMamba_hybrid",
    },
    missing=(
        "the published weights were not tried, and their config.json was not seen: sizes are InternLM2-1.8B's, the "
        "system prompt InternVL's of that time; further tiles and the thumbnail; special tokens in a table of their "
        "own; pixels shuffled behind the embedding module; other templates; modules of different sizes; `train joint`"
    ),
)
"""The family."""
