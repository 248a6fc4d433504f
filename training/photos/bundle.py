"""From trained members of the photo pair to the files that ship (models, encoder, lenses, tokenizer), and back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emma_viz.checkpoints.model_files import TOKENIZER
from emma_viz.errors import TrainingError
from emma_viz.files.atomic import copy_file
from emma_viz.files.schema import shape
from emma_viz.models.backbones import lite0_256
from training.loop.lens import LensImages
from training.loop.provenance import file_digest, read_provenance, written_now
from training.photos.encoder import LICENCES
from training.photos.fitting import Fitted
from training.photos.pictures import PhotoPictures
from training.photos.recipe import PHOTO_MEMBERS
from training.photos.work import PhotoWork
from training.pocket.bundle_reading import require_whole
from training.pocket.scores import read_scores
from training.pocket.stages import run_name, stage_record
from training.vision_language.lenses import LensPlan, write_member

FITTED_ON = "photographs of Caltech-101 and scenes of them (train)"
"""What lenses that were fitted on them say."""
COMMAND = "python -m training.photos pair"
"""Writes a bundle."""
_FITTED = {
    "variance": "variance kept",
    "r2_all": "R² of all features",
    "r2_reduced": "R² of the reduced",
    "confused": "confused",
}
"""What was found while the encoder was fitted, and its words in a member's provenance."""


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

    Raises:
        TrainingError: the work folder's encoder was fitted on other photographs, or another recipe made a finished
            stage.
    """
    _ = work.tower
    work.require_recipes(members, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    encoder = f"{lite0_256().backbone_id}.safetensors"
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


def start_from_bundle(work: PhotoWork, bundle: Path) -> None:
    """Give a work folder a bundle's encoder, what was found while it was fitted, and its tokenizer.

    Members that are trained in it see just what the bundle's own members saw: a fit of the encoder on another machine
    differs by rounding, which half precision keeps and the categories that it confuses most depend on.

    Raises:
        TrainingError: the bundle has no member of the photo pair or lacks its encoder or tokenizer, its members were
            trained on other photographs, or the folder has another encoder or tokenizer.
    """
    known = [bundle / member / "config.json" for member in PHOTO_MEMBERS]
    if not (known := [path for path in known if path.exists()]):
        raise TrainingError(
            f"{bundle} is no bundle that others can start from: it needs a member of the photo pair "
            f"({', '.join(PHOTO_MEMBERS)}). `{COMMAND}` writes one."
        )
    origin = read_provenance(known[0])
    if origin.data.get("digest") != work.library.digest:
        raise TrainingError(
            f"{work.photos} holds photographs with the digest {work.library.digest}; {known[0]} names "
            f"{origin.data.get('digest')}. Name the photographs that it was trained on."
        )
    about = {**origin.encoder, "confused": origin.data.get("confused")}
    found = {
        **{name: about.get(words) for name, words in _FITTED.items()},
        "photographs": work.library.digest,
        "commit": origin.commit,
    }
    shape(found, Fitted, where=str(known[0]), error=TrainingError, spare=True)
    encoder = f"{lite0_256().backbone_id}.safetensors"
    files = {TOKENIZER: known[0].parent / TOKENIZER, encoder: bundle / encoder}
    require_whole(bundle, files[encoder], files[TOKENIZER], recorded=origin.tokenizer, command=COMMAND)
    digests = {name: file_digest(source) for name, source in files.items()}
    for name, source in files.items():
        if (work.folder / name).exists() and file_digest(work.folder / name) != digests[name]:
            raise TrainingError(
                f"{work.folder} has another {name} than {source}: name an empty work folder (--work)."
            )
    work.folder.mkdir(parents=True, exist_ok=True)
    for name, source in files.items():
        copy_file(source, work.folder / name)
    # Last: whoever is stopped before has no encoder.
    work.keep_fitted(found)


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
        encoder={words: getattr(work.fitted, name) for name, words in _FITTED.items() if name != "confused"},
        licences=LICENCES,
        tokenizer=file_digest(work.folder / TOKENIZER),
        scores=read_scores(work.folder / "joint" / run_name(member, seed)),
    )
