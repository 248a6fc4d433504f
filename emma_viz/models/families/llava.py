"""LLaVA (arXiv 2304.08485): an attention transformer over image and text."""

from emma_viz.models.attention_sites import ATTENTION_SITES
from emma_viz.models.config import VLMConfig
from emma_viz.models.families.official import OfficialFamily


def llava_pocket() -> VLMConfig:
    """The pocket LLaVA: attention where the other pocket models have a Mamba, and nothing else that differs."""
    return LLAVA.pocket("llava-pocket", "pocket-attention")


def tiny_llava() -> VLMConfig:
    """A LLaVA for tests."""
    return LLAVA.tiny("tiny-llava", "tiny-attention")


LLAVA = OfficialFamily(
    name="llava",
    title="an attention transformer over image and text",
    model_ids=r"(?i)(tiny-)?llava.*",
    presets={"llava-pocket": llava_pocket, "tiny-llava": tiny_llava},
    prompt_style="zephyr",
    sites=ATTENTION_SITES,
)
"""The family."""
