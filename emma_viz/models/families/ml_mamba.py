"""ML-Mamba (arXiv 2407.19832): a Mamba-2 whose image is read in both directions before it is projected."""

from emma_viz.models.config import VLMConfig
from emma_viz.models.families.layout import Layout
from emma_viz.models.families.official import OfficialFamily


def ml_mamba_3b() -> VLMConfig:
    """ML-Mamba 3B, on Mamba-2 2.7B (`huangwenjun1994/ML-Mamba`)."""
    return ML_MAMBA.run("mlmamba+3b", llm_backbone_id="mamba2-2.7b")


def ml_mamba_siglip_3b() -> VLMConfig:
    """The same with SigLIP alone and a projector of two layers."""
    return ML_MAMBA.run(
        "mlmamba-siglip+3b",
        arch_specifier="no-align+gelu-mlp",
        vision_backbone_id="siglip-vit-so400m-384px",
        llm_backbone_id="mamba2-2.7b",
    )


def ml_mamba_ldp_3b() -> VLMConfig:
    """The same with 14×14 image tokens."""
    return ML_MAMBA.run(
        "mlmamba-ldpnet+3b", arch_specifier="no-align+fused-ldpnet", llm_backbone_id="mamba2-2.7b"
    )


def tiny_ml_mamba() -> VLMConfig:
    """An ML-Mamba for tests."""
    return ML_MAMBA.tiny("tiny-ml-mamba", "tiny-mamba2")


ML_MAMBA = OfficialFamily(
    name="ml-mamba",
    title="a Mamba-2 whose image is read in both directions before it is projected",
    model_ids=r"(?i)ml-?mamba.*",
    presets={
        "ml-mamba-3b": ml_mamba_3b,
        "ml-mamba-siglip-3b": ml_mamba_siglip_3b,
        "ml-mamba-ldp-3b": ml_mamba_ldp_3b,
        "tiny-ml-mamba": tiny_ml_mamba,
    },
    published={"ml-mamba-3b": "huangwenjun1994/ML-Mamba"},
    missing="the published weights were not tried",
    unpublished=frozenset({"ml-mamba-siglip-3b", "ml-mamba-ldp-3b"}),
    # Its prompt builder takes every id that begins with `mamba` for a chat-tuned one.
    prompt_style="zephyr",
    bidirectional=2,
    layout=Layout(
        name="ML-Mamba",
        prefixes=(
            ("mlp.", "projector.mlp."),
            ("bidirectional_mamba.", "projector.bidirectional_mamba."),
            ("projector.", "projector."),
            ("llm_backbone.", "llm."),
        ),
        signature=("bidirectional_mamba.",),
        components=("projector", "llm"),
    ),
)
"""The family. Its released code keeps two components more in a checkpoint, and the language model's keys bare."""
