"""Families in the layout of TinyLLaVA Factory: SigLIP and Phi-2 through two linear layers, and hybrids made of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import msgspec

from emma_viz.data.prompts import Turn, build_prompt
from emma_viz.errors import InputError
from emma_viz.files.schema import Size, shape
from emma_viz.models.backbones import LLM_BACKBONES, VISION_BACKBONES
from emma_viz.models.config import MambaConfig, ProjectorConfig, VLMConfig
from emma_viz.models.families.family import ImagePlace
from emma_viz.models.families.layout import Layout
from emma_viz.models.ranges import DEEPEST
from emma_viz.models.sites import Site

_LANGUAGE_MODELS = {"microsoft/phi-2": "phi-2", "tiny-phi": "tiny-phi"}
_ENCODERS = {
    "google/siglip-so400m-patch14-384": "siglip-so400m-384px+tanh",
    "tiny-siglip-60px": "tiny-siglip-60px",
}

FACTORY_LAYOUT = Layout(
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
class _Ssm:
    """What the Mamba-2 mixers of a hybrid are: as many groups as attention had heads, a state as wide as a head."""

    expand: Literal[1]
    ngroups: Size
    d_state: Size


@dataclass(frozen=True, kw_only=True)
class _Hybrid:
    """The fields of `mamba_config.json` that are read (github hustvl/MaTVLM, train_tinyllava_mamba2)."""

    d_model: Size
    d_inner: Size
    d_xb: Size
    n_layer: Size
    attn_layers: Annotated[tuple[int, ...], msgspec.Meta(max_length=DEEPEST)]
    ssm_cfg: _Ssm
    bidirectional: Literal[False] = False
    is_bias: Literal[False] = False


@dataclass(frozen=True, kw_only=True)
class FactoryFamily:
    """A family of TinyLLaVA Factory's on Phi-2; see `Family`. Its other language models are refused."""

    name: str
    title: str
    sites: Mapping[str, Site]
    presets: Mapping[str, Callable[[], VLMConfig]]
    hybrid: bool = False
    """Whether some blocks have a Mamba-2 for attention, as `mamba_config.json` beside says."""
    image_tokens: ImagePlace = "placeholders"
    layout: Layout = FACTORY_LAYOUT
    unpublished: frozenset[str] = frozenset()
    missing: str = ""
    """What of it is open or not supported, for the table of models."""
    published: Mapping[str, str] = field(default_factory=dict)

    def describe(self, values: Mapping[str, Any]) -> VLMConfig | None:
        """The model of a `config.json`; None where it is not of the family.

        Raises:
            InputError: a field is missing, of another type, or not supported.
        """
        if values.get("model_type") != "tinyllava" or self.hybrid != ("mamba_config" in values):
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
        if self.hybrid:
            llm = _mixed(llm, values["mamba_config"])
        return VLMConfig(
            model_id=self.name,
            family=self.name,
            vision=VISION_BACKBONES[_ENCODERS[read.vision_model_name_or_path]](),
            projector=ProjectorConfig(kind="gelu-mlp"),
            llm=llm if read.vocab_size is None else replace(llm, vocab_size=read.vocab_size),
            llm_backbone_id=f"{backbone}+mamba2" if self.hybrid else backbone,
            max_length=read.tokenizer_model_max_length,
            prompt_style="tinyllava",
        )

    def prompt(self, message: str | Sequence[Turn], config: VLMConfig) -> str:
        """What stands behind the image; what stands before it is `emma_viz.data.prompts.lead`."""
        return build_prompt(message, config.prompt_style)

    def member(self, model_id: str, llm: str, encoder: str, **rest: Any) -> VLMConfig:
        """A member that has a name.

        Args:
            model_id: the name.
            llm: what its `config.json` calls its language model.
            encoder: what it calls its encoder.
            rest: more fields of the `config.json`.
        """
        config = self.describe(
            {
                "model_type": "tinyllava",
                "llm_model_name_or_path": llm,
                "vision_model_name_or_path": encoder,
                "connector_type": "mlp2x_gelu",
                **rest,
            }
        )
        assert config is not None, "it names its own family"
        return replace(config, model_id=model_id)


def hybrid_values(llm: MambaConfig, attention: Sequence[int]) -> dict[str, Any]:
    """The `mamba_config.json` of a hybrid of a language model, as the released code writes it.

    Args:
        llm: the transformer that it is made of.
        attention: the blocks that keep their attention.
    """
    return {
        "d_model": llm.d_model, "d_inner": llm.d_model, "d_xb": llm.d_model, "n_layer": llm.n_layer,
        "attn_layers": list(attention),
        "ssm_cfg": {"expand": 1, "ngroups": llm.q_heads, "d_state": llm.d_model // llm.q_heads},
    }  # fmt: skip


def _mixed(llm: MambaConfig, values: Any) -> MambaConfig:
    """A transformer some of whose blocks have a Mamba-2.

    Raises:
        InputError: the mixers are not of the transformer's sizes.
    """
    read = shape(values, _Hybrid, where="mamba_config.json", error=InputError, spare=True)
    expected = hybrid_values(llm, read.attn_layers)
    for name, value in expected.items():
        found = vars(read.ssm_cfg) if name == "ssm_cfg" else getattr(read, name)
        if name != "attn_layers" and found != value:
            raise InputError(f"mamba_config.json: {name} is {found}; supported: {value}.")
    if odd := [layer for layer in read.attn_layers if not 0 <= layer < llm.n_layer]:
        raise InputError(f"mamba_config.json: attn_layers has {odd}; the blocks are 0…{llm.n_layer - 1}.")
    layers = tuple(layer for layer in range(llm.n_layer) if layer not in read.attn_layers)
    return replace(llm, mamba_layers=layers)
