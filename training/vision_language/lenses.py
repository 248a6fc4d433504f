"""A member as it ships: half precision, ridge and tuned lens, fitted on what it was trained on, and its own decoder."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from emma_viz.checkpoints import load_model
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.files.atomic import copy_file
from emma_viz.lens.headers import read_info
from emma_viz.session.fitting import HALF
from emma_viz.session.options import LensRecipe
from training.loop.config import as_record
from training.loop.lens import LensImages, fit_file
from training.vision_language.finish import Finished, write_model
from training.vision_language.task import VisionLanguageTask

TUNED_BUDGET = LensRecipe(
    kind="tuned",
    fit=2000,
    batch_size=4,
    layers_per_step=2,
    steps=1000,
    lr=2e-3,
    rank=16,
    decoder_layers=1,
    half=True,
)
"""What the tuned lens of every member that ships is trained with."""


@dataclass(frozen=True, kw_only=True)
class LensPlan:
    """What the lenses of a family's members are fitted and measured on; the same for each of them."""

    fit: Sequence[Any]
    """Training images for the ridge."""
    held_out: Sequence[Any]
    """Others, on which every lens is measured."""
    trained_on: Sequence[Any]
    """All images that the members were trained on, their own decoders with them."""
    said: str
    """What `trained_on` are, in words."""
    tuned: LensRecipe
    """The budget of the tuned lens."""
    tuned_images: LensImages
    """What it is fitted on."""


def write_member(
    task: VisionLanguageTask,
    folder: Path,
    plan: LensPlan,
    *,
    provenance: dict[str, Any],
    sources: Mapping[str, Any],
    kept: Path,
    tokenizer: Tokenizer | None = None,
) -> None:
    """Write a trained member in half precision, with its own decoder, a ridge and a tuned lens; each with its quality
    on held-out images.

    Args:
        task: the member, trained.
        folder: where it goes.
        plan: what the lenses are fitted on.
        provenance: for its config.json.
        sources: of its encoder and tokenizer, as `load_model` takes them.
        kept: begins the name of a file in which a tuned lens of this budget is kept: it is fitted when none for this
            model is there.
        tokenizer: to lie beside it.
    """
    finished = Finished(
        config=task.vlm.config,
        objective=task.objective,
        state=task.state_dict(),
        dtype=HALF,
        images=lambda: plan.trained_on,
        said=plan.said,
        n_fit=len(plan.trained_on),
        held_out=plan.held_out,
        provenance=provenance,
        tokenizer=tokenizer,
        sources=sources,
        small=True,
    )
    write_model(finished, folder, device=torch.device("cpu"))
    model = load_model(folder, **sources)
    shown = LensImages(fit=plan.fit, held_out=plan.held_out, names=(), said=plan.said)
    fit_file(model, LensRecipe(kind="ridge", half=True), shown, folder / "ridge.lens")
    budget = hashlib.sha256(json.dumps(as_record(plan.tuned), sort_keys=True).encode()).hexdigest()[:8]
    path = kept.with_name(f"{kept.name}.{budget}.tuned.lens")
    if not path.exists() or read_info(path).model_fingerprint != model.info.fingerprint:
        fit_file(model, plan.tuned, plan.tuned_images, path)
    copy_file(path, folder / "tuned.lens")
