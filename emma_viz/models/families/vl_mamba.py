"""VL-Mamba (arXiv 2403.13600): a Mamba whose connector scans the image in two dimensions. No weights were released."""

from dataclasses import replace

from emma_viz.models.config import VLMConfig
from emma_viz.models.families.official import OfficialFamily


def vl_mamba_2_8b() -> VLMConfig:
    """The paper's model: SigLIP, VSS-L2 with the bidirectional scan, Mamba 2.8B trained on SlimPajama."""
    return VL_MAMBA.run(
        "vl-mamba-2.8b", vision_backbone_id="siglip-vit-so400m-384px", llm_backbone_id="mamba-2.8b-slimpj"
    )


def vl_mamba_csm_2_8b() -> VLMConfig:
    """The same with the cross-scan, of the paper's ablation."""
    config = vl_mamba_2_8b()
    return replace(
        config, model_id="vl-mamba-csm-2.8b", projector=replace(config.projector, vss_scan="cross")
    )


def tiny_vl_mamba() -> VLMConfig:
    """A VL-Mamba for tests."""
    return VL_MAMBA.tiny("tiny-vl-mamba", "tiny-mamba1")


VL_MAMBA = OfficialFamily(
    name="vl-mamba",
    title="a Mamba whose connector scans the image both ways; built from the paper, no weights were released",
    model_ids=r"(?i)(tiny-)?vl-?mamba.*",
    presets={
        "vl-mamba-2.8b": vl_mamba_2_8b,
        "vl-mamba-csm-2.8b": vl_mamba_csm_2_8b,
        "tiny-vl-mamba": tiny_vl_mamba,
    },
    missing=(
        "not in the paper, and chosen: the connector's width and Mamba sizes, one layer for all orders, their sum, "
        "LayerNorm, prompts"
    ),
    unpublished=frozenset({"vl-mamba-2.8b", "vl-mamba-csm-2.8b"}),
    kind="vss-l2",
)
"""The family. Its run directories are ours, in the layout of Cobra's code, and its prompts Cobra's: neither is in the
paper."""
