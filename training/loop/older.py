"""What earlier checkouts wrote about a run, in the words of this one."""

from collections.abc import Mapping
from typing import Any

_ELSEWHERE = ("optimisation", "pixel_weight", "projector_rate", "score_every", "scored_scenes")
"""Parts that scenes had in a recipe of their own, until one recipe served all data."""


def in_todays_words(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe as it stands in config.json, or in the identity of a run, as it is written today.

    Only words differ: a run that began with the others goes on as it would have.

    Args:
        recipe: as it was written.
    """
    if "pixel_weight" in recipe:
        own = ("steps", "batch", "save_every")
        rates = {name: value for name, value in recipe["optimisation"].items() if name not in own}
        kept = {name: value for name, value in recipe.items() if name not in _ELSEWHERE}
        slower = [["vlm.projector.", recipe["projector_rate"]]]
        losses = dict.fromkeys(("linear_attention", "features", "cross_scan"), False)
        losses |= {"weight": recipe["pixel_weight"]}
        return {**rates, **kept, "slower": slower, "objective": losses, "precision": "fp32"}
    if "objective" in recipe and "phases" not in recipe:
        whole = {"batch": recipe["batch"], "steps": recipe["steps"], "captions": False, "pooled": False}
        return {**recipe, "phases": [whole]}
    return dict(recipe)
