"""What papers and model cards print of sizes and times, with its source: shown beside what is measured here."""

from dataclasses import dataclass, replace

from emma_viz.models.config import VLMConfig
from emma_viz.models.presets import PRESETS

TIMED_ON = "A100"
"""The GPU of the EMMA paper's times."""
LATENCY_SOURCE = "arXiv 2410.05938, Table 3"
COMPONENTS_SOURCE = "arXiv 2410.05938, Table 7"


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A line of the EMMA paper's Table 3."""

    system: str
    """As the paper calls it."""
    members: tuple[str, ...]
    """The presets here that it may be: more than one where our sources do not name its size."""
    tokens_per_second: float
    """N_avg: 256 forced tokens to one image."""


PRINTED_RATES: tuple[Rate, ...] = (
    Rate(system="EMMA-V2", members=("emma-v2-3b",), tokens_per_second=149.96),
    Rate(system="EMMA-V1", members=("emma-v1-3b",), tokens_per_second=138.95),
    Rate(system="Cobra", members=("cobra-3b",), tokens_per_second=138.95),
    Rate(system="TinyLLaVA", members=("tinyllava-phi-2-3.1b",), tokens_per_second=41.46),
    Rate(
        system="MobileVLM-V2 (size not said)",
        members=("mobilevlm-v2-1.7b", "mobilevlm-v2-3b"),
        tokens_per_second=39.36,
    ),
)
"""LATENCY_SOURCE, on TIMED_ON."""

_OF_BOTH = {"ViT": "731M", "projector": "47M", "MFF": "266M", "CA": "105M", "decoder": "174M"}
PRINTED_PARAMETERS: dict[str, dict[str, str]] = {
    "emma-v1-3b": {**_OF_BOTH, "LLM": "2.8B"},
    "emma-v2-3b": {**_OF_BOTH, "LLM": "2.7B"},
}
"""COMPONENTS_SOURCE: parameters of each component; CA is part of MFF."""

PUBLISHED_SIZES: dict[str, tuple[str, ...]] = {
    "cobra-3b": ("encoders 731M", "projector 47M", "language model 2.8B"),
    "emma-v1-3b": ("encoders 731M", "projector 47M", "language model 2.8B"),
    "emma-v2-3b": ("encoders 731M", "projector 47M", "language model 2.7B"),
    "ml-mamba-3b": ("language model 2.7B",),
    "emma-text-fusion-7b": ("language model 6.74B",),
    "vl-mamba-2.8b": ("language model 2.8B",),
    "mobilevlm-v2-1.7b": ("language model 1.4B", "whole 1.7B"),
    "mobilevlm-v2-3b": ("language model 2.7B", "whole 3B"),
    "tinyllava-phi-2-3.1b": ("language model 2.78B", "whole 3.1B"),
    "matvlm-0.25-3.1b": ("whole 3.27B",),
    "mmmamba-linear-2.7b": ("whole 2.7B",),
    "mmmamba-hybrid-2.7b": ("whole 2.7B",),
}
"""What papers and model cards say of members at full size, to the digits that they give. Of MaTVLM, whose name here is
that of its teacher, half the bytes of its files (4.98 and 1.56 GB, of 16 bits)."""


def printed_rate(config: VLMConfig) -> Rate | None:
    """What Table 3 prints of a model; None where it times no such model."""
    return next((rate for rate in PRINTED_RATES if any(_is(config, name) for name in rate.members)), None)


def printed_parameters(config: VLMConfig, component: str) -> str | None:
    """What Table 7 prints of a component of a model; None where it has no such line.

    Args:
        config: the model.
        component: ViT, projector, LLM, MFF, CA or decoder.
    """
    return next(
        (lines.get(component) for name, lines in PRINTED_PARAMETERS.items() if _is(config, name)), None
    )


def latency_note() -> str:
    """All of Table 3, in a sentence."""
    lines = ", ".join(f"{each.system} {each.tokens_per_second}" for each in PRINTED_RATES)
    return f"{LATENCY_SOURCE}, 256 tokens on an {TIMED_ON}, tokens/s: {lines}."


def components_note() -> str:
    """All of Table 7's parameters, in a sentence."""
    lines = "; ".join(
        f"{name}: {', '.join(f'{part} {said}' for part, said in parts.items())}"
        for name, parts in PRINTED_PARAMETERS.items()
    )
    return f"{COMPONENTS_SOURCE}, parameters (CA is part of MFF): {lines}."


def _is(config: VLMConfig, name: str) -> bool:
    """Whether a model is built as a preset is, whatever it is called and wherever it was read."""
    preset = PRESETS[name]()
    return (
        (config.family, config.vision) == (preset.family, preset.vision)
        and config.projector == preset.projector
        and replace(config.llm, vocab_size=preset.llm.vocab_size) == preset.llm
    )
