"""Cobra (arXiv 2403.14520): a Mamba trained on text alone."""

from emma_viz.models.config import VLMConfig
from emma_viz.models.families.official import OfficialFamily


def cobra_3b() -> VLMConfig:
    """Cobra 3B (`han1997/cobra`, folder `cobra+3b`)."""
    return COBRA.run("cobra+3b", llm_backbone_id="mamba-2.8b-zephyr")


def cobra_siglip_3b() -> VLMConfig:
    """Cobra with SigLIP alone and a projector of two layers."""
    return COBRA.run(
        "cobra-siglip+3b",
        arch_specifier="no-align+gelu-mlp",
        vision_backbone_id="siglip-vit-so400m-384px",
        llm_backbone_id="mamba-2.8b-zephyr",
    )


def cobra_base_3b() -> VLMConfig:
    """Cobra on a Mamba that was not tuned to chat."""
    return COBRA.run("cobra-base+3b", llm_backbone_id="mamba-2.8b-slimpj")


def cobra_ldp_3b() -> VLMConfig:
    """Cobra with 14×14 image tokens, pooled by MobileVLM's projector (LDPv2)."""
    return COBRA.run(
        "cobra-ldpnet+3b", arch_specifier="no-align+fused-ldpnet", llm_backbone_id="mamba-2.8b-zephyr"
    )


def cobra_pocket() -> VLMConfig:
    """The pocket Cobra: small enough to train and run on a CPU."""
    return COBRA.pocket("cobra-pocket", "pocket-mamba1")


def cobra_photo() -> VLMConfig:
    """The Cobra that knows photographs; see `training.photos`."""
    return COBRA.photo("cobra-photo", "photo-mamba1")


def tiny_cobra() -> VLMConfig:
    """A Cobra for tests: two tiny transformer towers, 4×4 image tokens, 3 blocks."""
    return COBRA.tiny("tiny-cobra", "tiny-mamba1")


COBRA = OfficialFamily(
    name="cobra",
    title="a Mamba over image and text, trained on the text alone",
    model_ids=r".*",  # The layout is Cobra's own: whoever else writes it says so in the id.
    presets={
        "cobra-3b": cobra_3b,
        "cobra-siglip-3b": cobra_siglip_3b,
        "cobra-base-3b": cobra_base_3b,
        "cobra-ldp-3b": cobra_ldp_3b,
        "cobra-pocket": cobra_pocket,
        "cobra-photo": cobra_photo,
        "tiny-cobra": tiny_cobra,
    },
    published={"cobra-3b": "han1997/cobra/cobra+3b"},
    missing="the published weights were not tried",
    unpublished=frozenset({"cobra-siglip-3b", "cobra-base-3b", "cobra-ldp-3b"}),
)
"""The family; of all that know run directories it is asked last."""
