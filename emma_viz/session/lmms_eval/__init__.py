"""Checkpoints of ours as models of lmms-eval: `python -m lmms_eval --model emma_viz --model_args pretrained=…`.

lmms-eval since 0.6 finds `manifest` as an entry point of the group `lmms_eval.models`. Older ones are told by the
environment: LMMS_EVAL_PLUGINS=emma_viz.session.lmms_eval. lmms-eval itself is imported when it asks, and not before.
"""

from typing import Any

from emma_viz.session.lmms_eval.models import AVAILABLE_MODELS

__all__ = ["AVAILABLE_MODELS", "manifest"]


def manifest() -> Any:
    """What lmms-eval's registry of models takes: a `ModelManifest` that names the class."""
    from lmms_eval.models.registry_v2 import ModelManifest  # ty: ignore[import-not-found]

    ((model, name),) = AVAILABLE_MODELS.items()
    return ModelManifest(
        model_id=model, simple_class_path=f"emma_viz.session.lmms_eval.models.{model}.{name}"
    )
