"""Vision-language models that are known and not loaded: how their `config.json` is told, and what is missing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emma_viz.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class Unsupported:
    """One of them."""

    name: str
    """As its authors call it."""
    model_types: tuple[str, ...]
    """What its `config.json` says of itself."""
    known: str
    """What is public of it."""
    missing: str
    """Why it is not loaded."""

    @property
    def said(self) -> str:
        """Both, as the end of a sentence that begins with what was given."""
        return f"is of {self.name} ({self.known}), which is not loaded: {self.missing}."


TRANSFORMERS_LOOKED_AT = "5.24.0"
"""The version of transformers of which `UNSUPPORTED` says what it has."""

UNSUPPORTED: tuple[Unsupported, ...] = (
    Unsupported(
        name="Zamba2-VL",
        model_types=("zamba2_vl",),
        known="Qwen2.5-VL's encoder, a projector of two layers and Zamba2",
        missing=f"transformers {TRANSFORMERS_LOOKED_AT} has Zamba2, the language model alone; the class of the whole, "
        "Zamba2_VLForConditionalGeneration, is in a fork",
    ),
    Unsupported(
        name="Nemotron Nano VL",
        model_types=("NemotronH_Nano_VL_V2",),
        known="C-RADIOv2, tiles, pixels shuffled, and Nemotron-H",
        missing=f"transformers {TRANSFORMERS_LOOKED_AT} has Nemotron-H and RADIO and no class of the whole",
    ),
    Unsupported(
        name="Nemotron 3 Nano Omni",
        model_types=("nemotron_h_omni",),
        known="RADIO, pixels shuffled, and Nemotron-H, a class of transformers' own",
        missing=f"its image processor in transformers {TRANSFORMERS_LOOKED_AT} needs torchvision, which this package "
        "never takes, and its blocks (Mamba-2, attention or experts alone) have no sites here; Recorder hooks "
        "its modules by their paths (docs/hooks.md)",
    ),
)
"""All that are known."""


def unsupported(values: Mapping[str, Any]) -> Unsupported | None:
    """The one that a `config.json` is of; None where it is of none of them."""
    return next((each for each in UNSUPPORTED if values.get("model_type") in each.model_types), None)


def require_supported(values: Mapping[str, Any], given: str) -> None:
    """Refuse a model that is known and not loaded.

    Args:
        values: its `config.json`.
        given: what named it.

    Raises:
        CheckpointError: it is one.
    """
    if (known := unsupported(values)) is not None:
        raise CheckpointError(f"{given} {known.said}")
