"""TinyLLaVA (arXiv 2402.14289): SigLIP and Phi-2 through two linear layers."""

from emma_viz.models.attention_sites import PARALLEL_SITES
from emma_viz.models.config import VLMConfig
from emma_viz.models.families.tinyllava_factory import FactoryFamily


def tinyllava_phi_2() -> VLMConfig:
    """TinyLLaVA 3.1B, on Phi-2 (`tinyllava/TinyLLaVA-Phi-2-SigLIP-3.1B`)."""
    return TINYLLAVA.member("tinyllava-phi-2-3.1b", "microsoft/phi-2", "google/siglip-so400m-patch14-384")


def tiny_tinyllava() -> VLMConfig:
    """A TinyLLaVA for tests."""
    return TINYLLAVA.member("tiny-tinyllava", "tiny-phi", "tiny-siglip-60px")


TINYLLAVA = FactoryFamily(
    name="tinyllava",
    title="an attention transformer of Phi-2's form over SigLIP",
    sites=PARALLEL_SITES,
    presets={"tinyllava-phi-2-3.1b": tinyllava_phi_2, "tiny-tinyllava": tiny_tinyllava},
    published={"tinyllava-phi-2-3.1b": "tinyllava/TinyLLaVA-Phi-2-SigLIP-3.1B"},
    missing="the published weights were not tried; TinyLLaVA Factory's other language models; `train joint`",
)
"""The family."""
