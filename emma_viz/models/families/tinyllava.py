"""TinyLLaVA (arXiv 2402.14289): SigLIP and Phi-2 through two linear layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from emma_viz.data.prompts import Turn, build_prompt
from emma_viz.errors import InputError
from emma_viz.files.schema import Size, shape
from emma_viz.models.attention_sites import PARALLEL_SITES
from emma_viz.models.backbones import LLM_BACKBONES, VISION_BACKBONES
from emma_viz.models.config import ProjectorConfig, VLMConfig
from emma_viz.models.families.family import ImagePlace
from emma_viz.models.families.layout import Layout
from emma_viz.models.sites import Site

_LANGUAGE_MODELS = {"microsoft/phi-2": "phi-2", "tiny-phi": "tiny-phi"}
_ENCODERS = {
    "google/siglip-so400m-patch14-384": "siglip-so400m-384px+tanh",
    "tiny-siglip-60px": "tiny-siglip-60px",
}

_LAYOUT = Layout(
    name="TinyLLaVA",
    prefixes=(
        ("language_model.model.embed_tokens.", "llm.backbone.embedding."),
        ("language_model.model.layers.", "llm.backbone.layers."),
        ("language_model.model.final_layernorm.", "llm.backbone.norm_f."),
        ("language_model.lm_head.", "llm.lm_head."),
        ("connector._connector.", "projector.projector."),
    ),
    signature=("language_model.model.", "connector._connector."),
    components=("projector", "llm"),
    unread=r"vision_tower\._vision_tower\..*|.*\.rotary_emb\.inv_freq",
)


@dataclass(frozen=True, kw_only=True)
class _Published:
    """The fields of its `config.json` that are read; the parts' sizes are those of the models that it names."""

    llm_model_name_or_path: str
    vision_model_name_or_path: str
    connector_type: Literal["mlp2x_gelu"]
    vision_feature_layer: Literal[-2] = -2
    vision_feature_select_strategy: Literal["patch"] = "patch"
    image_aspect_ratio: Literal["square"] = "square"
    vocab_size: Size | None = None
    tokenizer_model_max_length: Size = 2048


@dataclass(frozen=True, kw_only=True)
class TinyLlavaFamily:
    """TinyLLaVA on Phi-2; see `Family`. The other language models of TinyLLaVA Factory are refused."""

    name: str = "tinyllava"
    title: str = "an attention transformer of Phi-2's form over SigLIP"
    image_tokens: ImagePlace = "placeholders"
    layout: Layout = _LAYOUT
    sites: Mapping[str, Site] = field(default_factory=lambda: PARALLEL_SITES)
    unpublished: frozenset[str] = frozenset()
    published: Mapping[str, str] = field(
        default_factory=lambda: {"tinyllava-phi-2-3.1b": "tinyllava/TinyLLaVA-Phi-2-SigLIP-3.1B"}
    )

    @property
    def presets(self):
        """The published model, and a tiny one for tests."""
        return {"tinyllava-phi-2-3.1b": tinyllava_phi_2, "tiny-tinyllava": tiny_tinyllava}

    def describe(self, values: Mapping[str, Any]) -> VLMConfig | None:
        """The model of a `config.json`; None where it is not of the family.

        Raises:
            InputError: a field is missing, of another type, or not supported.
        """
        if values.get("model_type") != "tinyllava":
            return None
        read = shape(values, _Published, where="config.json (tinyllava)", error=InputError, spare=True)
        for what, known, name in (
            ("llm_model_name_or_path", _LANGUAGE_MODELS, read.llm_model_name_or_path),
            ("vision_model_name_or_path", _ENCODERS, read.vision_model_name_or_path),
        ):
            if name not in known:
                raise InputError(f"{what} must be one of {', '.join(known)}; got {name!r}.")
        backbone = _LANGUAGE_MODELS[read.llm_model_name_or_path]
        llm = LLM_BACKBONES[backbone]()
        return VLMConfig(
            model_id=self.name,
            family=self.name,
            vision=VISION_BACKBONES[_ENCODERS[read.vision_model_name_or_path]](),
            projector=ProjectorConfig(kind="gelu-mlp"),
            llm=llm if read.vocab_size is None else replace(llm, vocab_size=read.vocab_size),
            llm_backbone_id=backbone,
            max_length=read.tokenizer_model_max_length,
            prompt_style="tinyllava",
        )

    def prompt(self, message: str | Sequence[Turn], config: VLMConfig) -> str:
        """What stands behind the image; what stands before it is `emma_viz.data.prompts.lead`."""
        return build_prompt(message, config.prompt_style)


TINYLLAVA = TinyLlavaFamily()
"""The family."""


def tinyllava_phi_2() -> VLMConfig:
    """TinyLLaVA 3.1B, on Phi-2 (`tinyllava/TinyLLaVA-Phi-2-SigLIP-3.1B`)."""
    return _member("tinyllava-phi-2-3.1b", "microsoft/phi-2", "google/siglip-so400m-patch14-384")


def tiny_tinyllava() -> VLMConfig:
    """A TinyLLaVA for tests."""
    return _member("tiny-tinyllava", "tiny-phi", "tiny-siglip-60px")


def _member(model_id: str, llm: str, encoder: str) -> VLMConfig:
    config = TINYLLAVA.describe(
        {
            "model_type": "tinyllava",
            "llm_model_name_or_path": llm,
            "vision_model_name_or_path": encoder,
            "connector_type": "mlp2x_gelu",
        }
    )
    assert config is not None, "it names its own family"
    return replace(config, model_id=model_id)
