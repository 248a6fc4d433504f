"""From a trained family to the files that ship: models in half precision, one encoder, lenses, tokenizer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from emma_viz.checkpoints import BUNDLED, save_vision_encoder
from emma_viz.checkpoints.model_files import TOKENIZER
from emma_viz.checkpoints.run_config import read_config, vlm_config
from emma_viz.errors import TrainingError
from emma_viz.files.atomic import copy_file, write_file
from emma_viz.files.json_door import read_json
from emma_viz.models.towers.vision import VisionEncoder
from emma_viz.session.fitting import HALF
from training.loop.checkpoints import leaves
from training.loop.config import as_record
from training.loop.provenance import Provenance, file_digest, read_provenance, written_now
from training.pocket.bundle_reading import bundle_tokenizer, require_whole, ships
from training.pocket.encoder import ENCODER_SCORES
from training.pocket.scenes import SCENES, scenes_for
from training.pocket.scores import read_scores
from training.pocket.stages import Work, keep, read_stage, run_name, text_file
from training.vision_language.lenses import LensPlan, write_member

_COMMAND = "emma-viz train pocket-pair"
"""Writes a bundle."""


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
            made a finished stage; or the folder is another package's.
    """
    require_bundle_place(folder, seed=seed)
    work.stages(members, seed=seed)
    tokenizer_path = bundle_tokenizer(folder)
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
    if others and not (_shares_encoder(work, folder) and _shares_tokenizer(work, folder)):
        raise TrainingError(
            f"{folder} also holds {', '.join(sorted(others))}, which read another encoder or tokenizer than "
            f"{work.folder} has. Train from theirs (--start) or write to another folder (--bundle)."
        )


def require_bundle_place(bundle: Path, *, seed: int) -> None:
    """Refuse to write a bundle where models ship: another package's at all, this one's with another seed than 0.

    Raises:
        TrainingError: it lies there.
    """
    if not ships(bundle):
        return
    if bundle.resolve() != BUNDLED.resolve():
        raise TrainingError(
            f"{bundle} holds the models of another checkout or installed package, and its tokenizer is of that; name "
            "another folder for the bundle (--bundle), or train in that checkout."
        )
    if seed:
        raise TrainingError(
            f"The package ships seed 0; name another folder for the bundle of seed {seed} (--bundle)."
        )


def _encoder_of(work: Work, bundle: Path) -> Path:
    return bundle / f"{work.config.vision.backbone_id}.safetensors"


def _shares_tokenizer(work: Work, bundle: Path) -> bool:
    """Whether a bundle's tokenizer is that of a work folder; a file that one of them lacks is none of another."""
    return _same_bytes(bundle_tokenizer(bundle), work.folder / TOKENIZER)


def _shares_encoder(work: Work, bundle: Path) -> bool:
    """Whether a bundle's encoder is that of a work folder; a file that one of them lacks is none of another."""
    encoder = _encoder_of(work, bundle)
    if not (encoder.exists() and work.has_encoder):
        return True
    expected = _whole_encoder(work).state_dict()
    found = read_stage(VisionEncoder(work.config.vision), encoder).state_dict()
    return expected.keys() == found.keys() and all(
        torch.equal(found[name].float(), each) for name, each in expected.items()
    )


def _same_bytes(one: Path, other: Path) -> bool:
    return not (one.exists() and other.exists()) or one.read_bytes() == other.read_bytes()


def take_start(work: Work, bundle: Path) -> None:
    """Fill a work folder with a bundle's tokenizer, encoder and text stage, in place of training them.

    Members that are trained in it then start from what the bundle's own members started from, to the bit. All is looked
    at before the first file is written.

    Args:
        work: the folder, which may be new.
        bundle: as `bundle_family` writes it, or the `emma_viz/checkpoints/bundled` of any checkout.

    Raises:
        TrainingError: the bundle has no such stages or not all of their files, they were made by another recipe, for
            other models or with another tokenizer, or the folder has others.
    """
    texts = [name for name in work.language_models if (bundle / text_file(name)).exists()]
    member = _first_member(work, bundle) if texts else None
    if member is None:
        raise TrainingError(
            f"{bundle} is no bundle that others can start from: it needs a member of the family {work.name} and a file "
            f"{text_file('<language model>')}. `{_COMMAND}` writes one."
        )
    origin = read_provenance(member)
    minutes, made = origin.minutes.get("encoder"), origin.trained_at.get("encoder")
    if minutes is None or made is None:
        raise TrainingError(
            f"{member} does not record when its encoder was trained; name another bundle (--start)."
        )
    _require_same_recipe(work, bundle, origin)
    encoder, tokenizer = _encoder_of(work, bundle), bundle_tokenizer(bundle)
    require_whole(bundle, encoder, tokenizer, recorded=origin.tokenizer, command=_COMMAND)
    same_texts = all(_same_bytes(bundle / text_file(n), work.folder / text_file(n)) for n in texts)
    if not (same_texts and _shares_encoder(work, bundle) and _shares_tokenizer(work, bundle)):
        raise TrainingError(
            f"{work.folder} has a tokenizer, encoder or text stage already, and not those of {bundle}. Name an empty "
            "work folder (--work), or leave --start out."
        )
    vision = read_stage(VisionEncoder(work.config.vision), encoder)
    work.folder.mkdir(parents=True, exist_ok=True)
    for name in texts:
        if not (work.folder / text_file(name)).exists():
            copy_file(bundle / text_file(name), work.folder / text_file(name))
    if not (work.folder / TOKENIZER).exists():
        copy_file(tokenizer, work.folder / TOKENIZER)
    if not work.has_encoder:
        (work.folder / "encoder").mkdir(exist_ok=True)
        scores = json.dumps(origin.encoder_scores)
        write_file(
            work.folder / "encoder" / ENCODER_SCORES, lambda part: part.write_text(scores, encoding="utf-8")
        )
        keep(
            vision.towers["pocket"],
            work.folder / "encoder.safetensors",
            minutes=minutes,
            commit=made,
            recipe=as_record(work.recipe.encoder),
        )


def _first_member(work: Work, bundle: Path) -> Path | None:
    """The description of the first of a family's members that a bundle holds.

    Raises:
        TrainingError: one that it holds is another model here, so that its stages do not fit.
    """
    found = {path.parent.name: path for path in bundle.glob("*/config.json")}
    known = {name: found[name] for name in work.recipe.members if name in found}
    for name, path in known.items():
        config, ours = vlm_config(read_config(path), where=str(path)), work.recipe.members[name].model()
        for part, its, here in (
            ("encoder", config.vision, ours.vision),
            ("language model", config.llm, ours.llm),
        ):
            if odd := _differences(asdict(here), asdict(its)):
                raise TrainingError(
                    f"The {part} that {path} describes is another than that of {name} in this checkout: {odd}. Use the "
                    "checkout that made it, or train anew, without --start."
                )
    return next(iter(known.values()), None)


def _require_same_recipe(work: Work, bundle: Path, origin: Provenance) -> None:
    """Refuse a bundle whose encoder or text stage another recipe made."""
    for stage, found, recipe in (
        ("encoder", origin.encoder, work.recipe.encoder),
        ("text", origin.text, work.recipe.text),
    ):
        if odd := _differences(json.loads(json.dumps(as_record(recipe))), found):
            raise TrainingError(
                f"The {stage} stage of {bundle} was trained by another recipe than this checkout's: {odd}. "
                f"Use the checkout that made it ({origin.commit}), or train anew, without --start."
            )


def _differences(ours: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """What two records do not agree on, in words; empty where they are equal."""
    here, there = dict(leaves(ours)), dict(leaves(found))
    odd = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    return "; ".join(f"{name}: expected {here.get(name)}, got {there.get(name)}" for name in odd)


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
        tokenizer=file_digest(work.folder / TOKENIZER),
        scores=read_scores(work.run_folder(member, seed)),
        encoder_scores=read_json(work.folder / "encoder" / ENCODER_SCORES, error=TrainingError),
    )


def _whole_encoder(work: Work) -> VisionEncoder:
    vision = VisionEncoder(work.config.vision)
    vision.towers["pocket"].load_state_dict(work.encoder.state_dict())
    return vision
