"""MaTVLM (arXiv 2503.13440): SigLIP and Phi-2, some of whose blocks have a Mamba-2 for attention.

The released code (github hustvl/MaTVLM, `mamba2`, `mamba2_inference`) has mixers with as many groups of B and C as
attention had heads, each with a state as wide as a head; the MLP and the norm of a block stay.
"""

from emma_viz.models.attention_sites import HYBRID_SITES
from emma_viz.models.backbones import phi_2, tiny_phi
from emma_viz.models.config import VLMConfig
from emma_viz.models.families.tinyllava_factory import FactoryFamily, hybrid_values


def matvlm_phi_2() -> VLMConfig:
    """MaTVLM with a Mamba-2 in every fourth block (`ssm_layers` of `tinyllava_0.25_mamba2_665k.yaml`;
    `hustvl/MaTVLM_0_25_Mamba2`)."""
    attention = [layer for layer in range(32) if layer % 4]
    return MATVLM.member(
        "matvlm-0.25-3.1b", "microsoft/phi-2", "google/siglip-so400m-patch14-384",
        mamba_config=hybrid_values(phi_2(), attention),
    )  # fmt: skip


def tiny_matvlm() -> VLMConfig:
    """A MaTVLM for tests: the first and the last of three blocks have a Mamba-2."""
    return MATVLM.member(
        "tiny-matvlm", "tiny-phi", "tiny-siglip-60px", mamba_config=hybrid_values(tiny_phi(), [1])
    )


MATVLM = FactoryFamily(
    name="matvlm",
    title="a hybrid: Phi-2 over SigLIP, a Mamba-2 in the place of attention in some blocks",
    sites=HYBRID_SITES,
    presets={"matvlm-0.25-3.1b": matvlm_phi_2, "tiny-matvlm": tiny_matvlm},
    hybrid=True,
    published={"matvlm-0.25-3.1b": "hustvl/MaTVLM_0_25_Mamba2"},
    missing=(
        "the published weights were not tried; open: whose head counts, the file's (here) or Phi-2's as published (the "
        "released evaluation); hybrids of InternVL and TinyLlama; biased or bidirectional mixers; `train joint`"
    ),
)
"""The family."""
