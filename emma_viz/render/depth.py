"""Where a model's layers stand on an axis that it shares with other models."""

from collections.abc import Iterable

from emma_viz.render.spec import ModelCase

RELATIVE = "depth (layer / last layer)"
"""What the axis says where the models are not equally deep."""


def is_relative(models: Iterable[ModelCase]) -> bool:
    """Whether the models with a curve have different numbers of blocks, so that their layers stand by depth."""
    return len({_last(model) for model in models if model.retention}) > 1


def depth_of(model: ModelCase, layer: int, *, relative: bool) -> float:
    """Where a layer stands: its number, or by depth, 1 at the last block; the embedding lies just below 0."""
    return layer / max(_last(model), 1) if relative else float(layer)


def nearest_layer(model: ModelCase, layer: int, other: ModelCase) -> int:
    """The layer shown of `model` that lies as deep, of all its blocks, as one of another; of two, the first."""
    depth = layer / (_last(other) + 1)
    return min(model.layers, key=lambda each: round(abs(each / (_last(model) + 1) - depth), 9))


def _last(model: ModelCase) -> int:
    if model.n_layer is not None:
        return model.n_layer - 1
    return max(0, *model.layers, *(layer for layer, _ in model.retention))
