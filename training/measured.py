"""Bundles, and what was measured of them: sums per image that can be kept in a file and outlast the weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from tqdm import tqdm

from emma_viz.atomic import write_file
from emma_viz.checkpoints import BUNDLED, LoadedModel, load_model
from emma_viz.errors import TrainingError
from emma_viz.lens.files import load_lens
from emma_viz.models.vlm import VLM
from training.encoder import normalise
from training.examination import PHOTOS, Examined, Material, encoder_digest, examine, images_shown, prepare
from training.joint import new_task
from training.recipes import FAMILIES, MEMBERS, family_of
from training.scenes import drawn_scenes
from training.stages import SCALED_BY, commit, read_text_model, text_file

RETENTION = 150
"""So many of the held-out scenes are decoded."""
FORMAT = 1
"""Version of the files."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A folder of members that share an encoder."""

    folder: Path
    members: tuple[str, ...]
    """Names, in the order of the recipes."""

    @property
    def name(self) -> str:
        """What the page calls it."""
        return "of the package" if self.folder == BUNDLED else self.folder.name

    def encoder(self, member: str) -> Path:
        """The file of the encoder that a member uses."""
        return self.folder / f"{self.description(member)['vision']['backbone_id']}.safetensors"

    def description(self, member: str) -> dict[str, Any]:
        """What the member's config.json says, with its provenance."""
        return json.loads((self.folder / member / "config.json").read_text(encoding="utf-8"))["emma_viz"]

    def seed(self, member: str) -> int:
        """The seed of a member's joint stage."""
        return self.description(member).get("provenance", {}).get("seed", 0)

    def load(self, member: str) -> LoadedModel:
        """A member with the bundle's own encoder and tokenizer."""
        tokenizer = self.folder / "tokenizer.json"
        return load_model(
            self.folder / member,
            vision_source=self.encoder(member),
            tokenizer_source=tokenizer if tokenizer.exists() else None,
        )

    def origin(self, member: str) -> dict[str, Any]:
        """The few facts of a member's provenance that the page prints; what was not recorded is said to be so."""
        kept = self.description(member).get("provenance", {})
        unknown = "not recorded"
        seed = kept.get("seed", kept.get("joint", {}).get("optimisation", {}).get("seed", unknown))
        return {
            "seed": seed,
            "command": kept.get("command", unknown),
            "commit": kept.get("commit", unknown),
            "data": kept.get("data", {}).get("digest", unknown),
            "minutes": kept.get("minutes", {}),
            "scores": kept.get("scores", []),
        }


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What members were shown: numbers can be set side by side when this is equal."""

    answers: int
    """Held-out scenes that questions were asked about."""
    retention: int
    """The first of them, which were decoded."""
    fit: int
    """Training scenes that lenses and probes were fitted on."""
    photos: tuple[str, ...]
    scenes: str
    """Digest of the held-out scenes' pixels."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """One bundle, measured."""

    name: str
    """Of the bundle, as the page calls it."""
    shown: Shown
    commit: str
    """That was checked out when it was measured."""
    members: dict[str, Examined]
    """In the order of the recipes."""
    origins: dict[str, dict[str, Any]]
    """Member → `Bundle.origin`."""


def open_bundle(folder: Path) -> Bundle:
    """Look which members a bundle has.

    Raises:
        TrainingError: it has none.
    """
    found = {path.parent.name for path in folder.glob("*/config.json")}
    ordered = [*(name for name in MEMBERS if name in found), *sorted(found - set(MEMBERS))]
    if not ordered:
        raise TrainingError(
            f"{folder} holds no model. A bundle has a folder with a config.json for each; make one with "
            "`python -m training.train pocket-pair --bundle FOLDER`."
        )
    return Bundle(folder=folder, members=tuple(ordered))


def untrained_model(bundle: Bundle, model: LoadedModel, member: str) -> VLM:
    """The control: the member as joint training found it, before its first step.

    Raises:
        TrainingError: the bundle has no language model that has read text alone.
    """
    path = bundle.folder / text_file(model.config.llm_backbone_id)
    if not path.exists():
        raise TrainingError(
            f"{path} is missing: {member} is compared with what its training began from. "
            "`python -m training.train pocket-pair --bundle FOLDER` writes it beside the models."
        )
    recipe = FAMILIES[family_of(member)]().joint
    recipe = replace(recipe, optimisation=replace(recipe.optimisation, seed=bundle.seed(member)))
    scenes = drawn_scenes("train", SCALED_BY)
    with torch.inference_mode():
        features = model.vlm.vision([normalise(scenes.images)]).half().float()
    llm = read_text_model(model.config, path)
    return new_task(recipe, model.config, features=features, llm=llm).vlm.eval()


def measure(bundle: Bundle, *, answers: int) -> Measured:
    """Examine every member of a bundle.

    Args:
        bundle: with lenses and the language models that have read text alone.
        answers: held-out scenes that questions are asked about.
    """
    found: dict[str, Examined] = {}
    material: dict[tuple[str, int], Material] = {}
    shown: set[Shown] = set()
    for member in bundle.members:
        model = bundle.load(member)
        fit = load_lens(model, "ridge").info.n_fit
        key, retention = (encoder_digest(bundle.encoder(member)), fit), min(RETENTION, answers)
        shown.add(
            Shown(
                answers=answers,
                retention=retention,
                fit=fit,
                photos=PHOTOS,
                scenes=drawn_scenes("test", answers).digest,
            )
        )
        if key not in material:
            with tqdm(total=answers + fit + len(PHOTOS), desc="encode scenes") as bar:
                material[key] = prepare(model, scenes=answers, retention=retention, fit=fit, step=bar.update)
        control = untrained_model(bundle, model, member)
        with tqdm(total=images_shown(material[key]), desc=f"{member}, bundle {bundle.name}") as bar:
            found[member] = examine(model, material[key], bar.update, untrained=control)
    if len(shown) > 1:
        raise TrainingError(
            f"The ridge lenses of {bundle.folder} were fitted on different numbers of scenes: "
            f"{sorted(each.fit for each in shown)}. Fit them alike."
        )
    return Measured(
        name=bundle.name,
        shown=shown.pop(),
        commit=commit(),
        members=found,
        origins={member: bundle.origin(member) for member in bundle.members},
    )


def require_room(kept: Measured, bundle: Bundle) -> None:
    """Refuse to keep a bundle's members with others that they do not belong to.

    Raises:
        TrainingError: a member was measured already, or the seeds differ.
    """
    if known := [member for member in bundle.members if member in kept.members]:
        raise TrainingError(f"{', '.join(known)} of {kept.name} was measured already. Name another file.")
    seeds = {str(origin["seed"]) for origin in kept.origins.values()}
    found = {str(bundle.origin(member)["seed"]) for member in bundle.members}
    if seeds != found or len(found) > 1:
        raise TrainingError(
            f"Members of one seed are kept together: the file has seed {', '.join(sorted(seeds))}, the bundle "
            f"{', '.join(sorted(found))}. Name another file."
        )


def together(a: Measured, b: Measured) -> Measured:
    """One bundle whose members were measured at two times.

    Raises:
        TrainingError: they were not shown the same.
    """
    if a.shown != b.shown:
        raise TrainingError(
            f"What was kept was measured on {a.shown}, and this on {b.shown}. Name another file."
        )
    members, origins = a.members | b.members, a.origins | b.origins
    order = [
        *(name for name in MEMBERS if name in members),
        *(name for name in members if name not in MEMBERS),
    ]
    return replace(
        a,
        commit=b.commit,
        members={name: members[name] for name in order},
        origins={name: origins[name] for name in order},
    )


SEPARATOR = "|"
"""Between the parts of an array's name: member, field, place, column."""


def save_measured(measured: Measured, path: Path) -> None:
    """Write what was measured of a bundle, in an npz file: the sums as arrays, everything else as JSON."""
    arrays: dict[str, np.ndarray] = {}
    texts: dict[str, dict[str, Any]] = {}
    for member, found in measured.members.items():
        texts[member] = {"fingerprint": found.fingerprint, "photo_captions": found.photo_captions}
        for name, kept in _kept(found).items():
            for place, columns in kept.items():
                for column, values in columns.items():
                    arrays[SEPARATOR.join((member, name, place, column))] = values
    about = {
        "format": FORMAT,
        "name": measured.name,
        "commit": measured.commit,
        "shown": {each.name: getattr(measured.shown, each.name) for each in fields(Shown)},
        "origins": measured.origins,
        "members": texts,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    described = np.array(json.dumps(about, ensure_ascii=False))

    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, about=described, **arrays)

    write_file(path, write)


KEPT = ("scenes", "photos", "answers", "tuned", "shuffled", "untrained")
"""Fields of Examined that hold columns by place or topic."""


def _kept(found: Examined) -> dict[str, Mapping[str, Mapping[str, np.ndarray]]]:
    return {**{name: getattr(found, name) for name in KEPT}, "captions": {"": found.captions}}


def read_measured(path: Path) -> Measured:
    """Read what `save_measured` wrote.

    Raises:
        TrainingError: it is no such file, or of another version.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            arrays = {name: file[name] for name in file.files if name != "about"}
        if about["format"] != FORMAT:
            raise TrainingError(
                f"{path} is of format {about['format']}; this checkout reads {FORMAT}. Measure the bundle anew "
                "(`python -m training.results BUNDLE --keep FILE`)."
            )
        kept: dict[str, dict[str, dict[str, dict[str, np.ndarray]]]] = {
            member: {name: {} for name in (*KEPT, "captions")} for member in about["members"]
        }
        for name, values in arrays.items():
            member, field, place, column = name.split(SEPARATOR)
            kept[member][field].setdefault(place, {})[column] = values
        members = {
            member: Examined(
                fingerprint=texts["fingerprint"],
                photo_captions=tuple(texts["photo_captions"]),
                captions=kept[member].pop("captions")[""],
                **kept[member],
            )
            for member, texts in about["members"].items()
        }
        shown: dict[str, Any] = {**about["shown"], "photos": tuple(about["shown"]["photos"])}
        return Measured(
            name=about["name"],
            shown=Shown(**shown),
            commit=about["commit"],
            members=members,
            origins=about["origins"],
        )
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise TrainingError(
            f"{path} is not what `python -m training.results BUNDLE --keep FILE` writes ({error!r}). Name a bundle's "
            "folder or such a file."
        ) from error
