"""MobileVLM-V2 (arXiv 2402.03766): LLaVA with a small Llama and image tokens that are pooled four to one."""

from emma_viz.models.backbones import POCKET_VOCABULARY
from emma_viz.models.config import VLMConfig
from emma_viz.models.families.layout import Layout
from emma_viz.models.families.llava_like import FROZEN, LANGUAGE_MODEL, LlavaLikeFamily


def mobilevlm_v2_1_7b() -> VLMConfig:
    """MobileVLM-V2 1.7B, on MobileLLaMA 1.4B (`mtgv/MobileVLM_V2-1.7B`)."""
    return MOBILEVLM_V2.member("mobilevlm-v2-1.7b", _1_7B, "mobilellama-1.4b")


def mobilevlm_v2_3b() -> VLMConfig:
    """MobileVLM-V2 3B, on MobileLLaMA 2.7B (`mtgv/MobileVLM_V2-3B`)."""
    values = {**_1_7B, "hidden_size": 2560, "intermediate_size": 6912, "num_hidden_layers": 32,
              "num_attention_heads": 32}  # fmt: skip
    return MOBILEVLM_V2.member("mobilevlm-v2-3b", values, "mobilellama-2.7b")


def tiny_mobilevlm_v2() -> VLMConfig:
    """The same for tests: 4×4 patches, 2×2 image tokens."""
    values = {**_1_7B, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
              "num_key_value_heads": 2, "vocab_size": POCKET_VOCABULARY,
              "mm_vision_tower": "tiny-clip-60px"}  # fmt: skip
    return MOBILEVLM_V2.member("tiny-mobilevlm-v2", values, "tiny-llama")


MOBILEVLM_V2 = LlavaLikeFamily(
    name="mobilevlm-v2",
    title="a small attention transformer whose image tokens are pooled four to one (LDPv2)",
    claims=lambda values: str(values.get("mm_projector_type")).startswith("ldpnet"),
    layout=Layout(
        name="MobileVLM-V2",
        prefixes=(
            *LANGUAGE_MODEL,
            ("model.mm_projector.mlp.mlp.", "projector.projector."),
            ("model.mm_projector.peg.", "projector.projector.4."),
        ),
        signature=("model.mm_projector.mlp.", "model.mm_projector.peg."),
        components=("projector", "llm"),
        unread=FROZEN,
    ),
    projectors={"ldpnetv2": "ldpnet"},
    backbone_id="mobilellama",
    presets={
        "mobilevlm-v2-1.7b": mobilevlm_v2_1_7b,
        "mobilevlm-v2-3b": mobilevlm_v2_3b,
        "tiny-mobilevlm-v2": tiny_mobilevlm_v2,
    },
    published={
        "mobilevlm-v2-1.7b": "mtgv/MobileVLM_V2-1.7B",
        "mobilevlm-v2-3b": "mtgv/MobileVLM_V2-3B",
    },
    missing="the published weights were not tried; the first MobileVLM, with another projector; `train joint`",
)
"""The family. The first MobileVLM, whose projector is another, is refused."""

_1_7B = {
    "model_type": "mobilevlm",
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "vocab_size": 32000,
    "rms_norm_eps": 1e-6,
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    "mm_projector_type": "ldpnetv2",
    "mm_vision_select_layer": -2,
    "image_aspect_ratio": "pad",
}
