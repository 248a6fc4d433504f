"""From a trained family to the files that ship: models in half precision, one encoder, lenses, tokenizer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import emma_viz.data
from emma_viz.checkpoints import BUNDLED, save_vision_encoder
from emma_viz.checkpoints.run_config import read_config, vlm_config
from emma_viz.errors import TrainingError
from emma_viz.files.atomic import copy_file, write_file
from emma_viz.files.json_door import read_json
from emma_viz.models.towers.vision import VisionEncoder
from emma_viz.session.fitting import HALF
from training.loop.config import as_record
from training.loop.provenance import file_digest, read_provenance, written_now
from training.pocket.encoder import ENCODER_SCORES
from training.pocket.scenes import SCENES, scenes_for
from training.pocket.scores import read_scores
from training.pocket.stages import Work, keep, read_stage, run_name, text_file
from training.vision_language.lenses import LensPlan, write_member

_TOKENIZER = Path(emma_viz.data.__file__).parent / "bundled" / "tokenizer.json"


def bundle_family(work: Work, members: Sequence[str], folder: Path, *, command: str, seed: int = 0) -> Path:
    """Write members with their lenses, the shared encoder and the tokenizer.

    Args:
        work: with trained members.
        members: which of them.
        folder: of the bundle. That of the package itself is replaced only when it is named.
        command: what made them, for their provenance.
        seed: of the joint stage; encoder, tokenizer and text stage are the work folder's for every seed.

    Returns:
        The folder.

    Raises:
        TrainingError: the bundle has other members too, and they read another encoder or tokenizer; or another recipe
            made a finished stage.
    """
    work.stages(members, seed=seed)
    tokenizer_path = _tokenizer_of(folder)
    encoder_path = _encoder_of(work, folder)
    require_same_start(work, members, folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_vision_encoder(encoder_path, _whole_encoder(work), dtype=HALF)
    work.tokenizer.save(tokenizer_path)
    for name in {work.recipe.members[member].model().llm_backbone_id for member in members}:
        copy_file(work.folder / text_file(name), folder / text_file(name))
    plan = _lens_plan(work)
    for member in members:
        write_member(
            work.joint(member, seed=seed),
            folder / member,
            plan,
            provenance=member_provenance(work, member, command, seed=seed),
            sources={"vision_source": encoder_path, "tokenizer_source": tokenizer_path},
            kept=work.folder / run_name(member, seed),
        )
    return folder


def require_same_start(work: Work, members: Sequence[str], folder: Path) -> None:
    """Refuse a bundle that holds other members, of another encoder or tokenizer than a work folder has.

    Raises:
        TrainingError: it does.
    """
    encoder = work.config.vision.backbone_id
    others = {
        path.parent.name
        for path in folder.glob("*/config.json")
        if vlm_config(read_config(path), where=str(path)).vision.backbone_id == encoder
    } - set(members)
    if others and not _shares(work, _encoder_of(work, folder), _tokenizer_of(folder)):
        raise TrainingError(
            f"{folder} also holds {', '.join(sorted(others))}, which read another encoder or tokenizer than "
            f"{work.folder} has. Train from theirs (--start) or write to another folder (--bundle)."
        )


def is_of_the_package(bundle: Path) -> bool:
    """Whether a folder is that of the models that ship."""
    return bundle.resolve() == BUNDLED.resolve()


def _encoder_of(work: Work, bundle: Path) -> Path:
    return bundle / f"{work.config.vision.backbone_id}.safetensors"


def _tokenizer_of(bundle: Path) -> Path:
    return _TOKENIZER if is_of_the_package(bundle) else bundle / "tokenizer.json"


def _shares(work: Work, encoder: Path, tokenizer: Path) -> bool:
    """Whether a bundle's encoder and tokenizer are those of a work folder; files that it lacks are none of another."""
    if tokenizer.exists() and tokenizer.read_bytes() != (work.folder / "tokenizer.json").read_bytes():
        return False
    if not encoder.exists():
        return True
    expected = _whole_encoder(work).state_dict()
    found = read_stage(VisionEncoder(work.config.vision), encoder).state_dict()
    return expected.keys() == found.keys() and all(
        torch.equal(found[name].float(), each) for name, each in expected.items()
    )


def take_start(work: Work, bundle: Path) -> None:
    """Fill a work folder with a bundle's tokenizer, encoder and text stage, in place of training them.

    Members that are trained in it then start from what the bundle's own members started from, to the bit.

    Raises:
        TrainingError: the bundle has no such stages, they were made by another recipe, or the folder has others.
    """
    found = {path.parent.name: path for path in sorted(bundle.glob("*/config.json"))}
    known = [found[member] for member in work.recipe.members if member in found]
    texts = [name for name in work.language_models if (bundle / text_file(name)).exists()]
    if not known or not texts:
        raise TrainingError(
            f"{bundle} is no bundle that others can start from: it needs a member of the family {work.name} and a file "
            f"{text_file('<language model>')}. `emma-viz train pocket-pair` writes one."
        )
    origin = read_provenance(known[0])
    for stage, found, recipe in (
        ("encoder", origin.encoder, work.recipe.encoder),
        ("text", origin.text, work.recipe.text),
    ):
        if found != json.loads(json.dumps(as_record(recipe))):
            raise TrainingError(
                f"The {stage} stage of {bundle} was trained by another recipe than this checkout's: {found}. "
                f"Use the checkout that made it ({origin.commit}), or train anew, without --start."
            )
    tokenizer, encoder = _tokenizer_of(bundle), _encoder_of(work, bundle)
    work.folder.mkdir(parents=True, exist_ok=True)
    for name in texts:
        if not (work.folder / text_file(name)).exists():
            copy_file(bundle / text_file(name), work.folder / text_file(name))
    if not (work.folder / "tokenizer.json").exists():
        copy_file(tokenizer, work.folder / "tokenizer.json")
    if not (work.folder / "encoder.safetensors").exists():
        vision = read_stage(VisionEncoder(work.config.vision), encoder)
        (work.folder / "encoder").mkdir(exist_ok=True)
        scores = json.dumps(origin.encoder_scores)
        write_file(
            work.folder / "encoder" / ENCODER_SCORES, lambda part: part.write_text(scores, encoding="utf-8")
        )
        minutes, made = origin.minutes.get("encoder"), origin.trained_at.get("encoder")
        if minutes is None or made is None:
            raise TrainingError(
                f"{known[0]} does not record when its encoder was trained; name another bundle (--start)."
            )
        keep(
            vision.towers["pocket"],
            work.folder / "encoder.safetensors",
            minutes=minutes,
            commit=made,
            recipe=as_record(work.recipe.encoder),
        )
    same_texts = all(
        (bundle / text_file(n)).read_bytes() == (work.folder / text_file(n)).read_bytes() for n in texts
    )
    if not same_texts or not _shares(work, encoder, tokenizer):
        raise TrainingError(
            f"{work.folder} has a tokenizer, encoder or text stage already, and not those of {bundle}. Name an empty "
            "work folder (--work), or leave --start out."
        )


def _lens_plan(work: Work) -> LensPlan:
    """The lenses of a family's member: fitted on training scenes, measured on held-out ones."""
    recipe = work.recipe
    scenes = work.scenes("train", recipe.scenes).images
    held_out = work.scenes("test", recipe.test_scenes).images[: recipe.lens_heldout]
    return LensPlan(
        fit=list(scenes[: recipe.lens_scenes]),
        held_out=list(held_out),
        trained_on=list(scenes),
        said=SCENES,
        tuned=recipe.tuned,
        tuned_images=scenes_for(recipe.tuned),
    )


def member_provenance(work: Work, member: str, command: str, *, seed: int = 0) -> dict[str, Any]:
    """Where a member comes from: enough to train it again and to tell whether the result is the same."""
    recipe = work.recipe
    train = work.scenes("train", recipe.scenes)
    stages = {
        "encoder": work.record("encoder"),
        "text": work.record(f"text-{recipe.members[member].model().llm_backbone_id}"),
        "joint": work.record(run_name(member, seed)),
    }
    return written_now(
        command=command,
        member=member,
        seed=seed,
        encoder=as_record(recipe.encoder),
        text=as_record(recipe.text),
        joint=recipe.of_member(member, seed=seed).record(),
        minutes={name: stage.minutes for name, stage in stages.items()},
        trained_at={name: stage.commit for name, stage in stages.items()},
        data={"world": "tabletop", "scenes": len(train), "digest": train.digest},
        tokenizer=file_digest(work.folder / "tokenizer.json"),
        scores=read_scores(work.run_folder(member, seed)),
        encoder_scores=read_json(work.folder / "encoder" / ENCODER_SCORES, error=TrainingError),
    )


def _whole_encoder(work: Work) -> VisionEncoder:
    vision = VisionEncoder(work.config.vision)
    vision.towers["pocket"].load_state_dict(work.encoder.state_dict())
    return vision
