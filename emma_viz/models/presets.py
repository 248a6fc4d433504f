"""The models that have a name, and how a run directory's ids become a description."""

from collections.abc import Callable

from emma_viz.models.config import ResizeStrategy, VLMConfig
from emma_viz.models.families.table import OUR_FAMILIES, family_of_run

PRESETS: dict[str, Callable[[], VLMConfig]] = {
    name: preset for family in OUR_FAMILIES.values() for name, preset in family.presets.items()
}
"""Every model of our own families that has a name."""


def config_from_ids(
    *,
    model_id: str,
    arch_specifier: str,
    vision_backbone_id: str,
    llm_backbone_id: str,
    image_resize_strategy: ResizeStrategy = "resize-naive",
    llm_max_length: int = 2048,
) -> VLMConfig:
    """Describe the model of an official run directory from the `model` object of its `config.json`.

    The family is the first that takes the model id for its own (`emma_viz.models.families.table`).

    Args:
        model_id: the run's name.
        arch_specifier: the projector, with or without the official prefix `no-align+`.
        vision_backbone_id: one of `VISION_BACKBONES`.
        llm_backbone_id: one of `LLM_BACKBONES`.
        image_resize_strategy: how images are brought to the encoder's square.
        llm_max_length: longest sequence in training, tokens.

    Raises:
        InputError: an id or the projector is not known.
    """
    return family_of_run(model_id).run(
        model_id,
        arch_specifier=arch_specifier,
        vision_backbone_id=vision_backbone_id,
        llm_backbone_id=llm_backbone_id,
        image_resize_strategy=image_resize_strategy,
        llm_max_length=llm_max_length,
    )
