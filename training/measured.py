"""Bundles, and what was measured of them: sums per image that can be kept in a file and outlast the weights."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from emma_viz.atomic import write_file
from emma_viz.checkpoints import BUNDLED, LoadedModel, load_model
from emma_viz.errors import TrainingError
from emma_viz.lens.files import read_info
from emma_viz.models.vlm import VLM
from training.encoder import normalise
from training.examination import (
    ENCODER,
    PHOTOS,
    Examined,
    Material,
    examine,
    images_shown,
    prepare,
    weights_digest,
)
from training.joint import new_task
from training.recipes import FAMILIES, MEMBERS, family_of
from training.scenes import drawn_scenes
from training.stages import SCALED_BY, commit, read_text_model, text_file

RETENTION = 150
"""So many of the held-out scenes are decoded."""
FORMAT = 1
"""Version of the files, and of the definitions behind their numbers: to be raised when a measure, a question or a
control changes its meaning."""


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
        """The seed of a member's joint stage.

        Raises:
            TrainingError: the member does not say, so its control cannot be made.
        """
        try:
            return self.description(member)["provenance"]["seed"]
        except KeyError as error:
            raise TrainingError(
                f"{self.folder / member / 'config.json'} records no seed, so {member} cannot be compared with what its "
                "training began from. Bundle it with `python -m training.train pocket-family`."
            ) from error

    def load(self, member: str) -> LoadedModel:
        """A member with the bundle's own encoder and tokenizer."""
        tokenizer = self.folder / "tokenizer.json"
        return load_model(
            self.folder / member,
            vision_source=self.encoder(member),
            tokenizer_source=tokenizer if tokenizer.exists() else None,
        )

    def origin(self, member: str) -> dict[str, Any]:
        """What the page prints of a member's provenance, and what must be equal in all seeds of the member (`ALIKE`);
        what was not recorded is said to be so."""
        kept = self.description(member).get("provenance", {})
        unknown = "not recorded"
        joint = json.loads(json.dumps(kept.get("joint", {})))
        joint.get("optimisation", {}).pop("seed", None)
        joint.pop("model", None)
        files = {
            "encoder": self.encoder(member),
            "text": self.folder / text_file(self.description(member)["llm_backbone_id"]),
        }
        lenses = {kind: read_info(self.folder / member / f"{kind}.lens") for kind in ("ridge", "tuned")}
        return {
            "seed": self.seed(member),
            "command": kept.get("command", unknown),
            "commit": kept.get("commit", unknown),
            "data": kept.get("data", {}).get("digest", unknown),
            "minutes": kept.get("minutes", {}),
            "scores": kept.get("scores", []),
            "measured_at": commit(),
            "tokenizer": kept.get("tokenizer", unknown),
            "joint": joint or unknown,
            "lenses": {kind: [info.n_fit, *info.notes] for kind, info in lenses.items()},
            **{name: weights_digest(path) if path.exists() else unknown for name, path in files.items()},
        }


ALIKE = {
    "data": "the training scenes",
    "tokenizer": "the tokenizer",
    "encoder": "the encoder",
    "text": "the language model that has read text alone",
    "joint": "the recipe of the joint stage",
    "lenses": "the budget of the lenses",
}
"""Parts of an origin that seeds of one member share, in words: only the joint stage's seed may differ."""

SHARED = ("data", "tokenizer", "encoder", "joint")
"""Those of them that all members share, or they are not compared all else equal."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What members were shown. Numbers stand side by side only when it is equal, and their origins are alike."""

    answers: int
    """Held-out scenes that questions were asked about."""
    retention: int
    """The first of them, which were decoded."""
    fit: int
    """Training scenes that lenses and probes were fitted on."""
    photos: tuple[str, ...]
    scenes: str
    """Digest of the held-out scenes, of every 50th."""

    def differences(self, other: "Shown") -> str:
        """The fields that differ, with both values, in words; empty when none does."""
        pairs = ((each.name, getattr(self, each.name), getattr(other, each.name)) for each in fields(self))
        return ", ".join(f"{name} {mine} and {others}" for name, mine, others in pairs if mine != others)


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """One bundle, measured."""

    name: str
    """Of the bundle, as the page calls it."""
    shown: Shown
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
    shown = shown_to(bundle, answers=answers)
    found: dict[str, Examined] = {}
    material: dict[str, Material] = {}
    for member in bundle.members:
        model = bundle.load(member)
        key = weights_digest(bundle.encoder(member))
        if key not in material:
            with tqdm(total=answers + shown.fit + len(PHOTOS), desc="encode scenes") as bar:
                material[key] = prepare(
                    model, scenes=answers, retention=shown.retention, fit=shown.fit, step=bar.update
                )
        control = untrained_model(bundle, model, member)
        with tqdm(total=images_shown(material[key]), desc=f"{member}, bundle {bundle.name}") as bar:
            found[member] = examine(model, material[key], bar.update, untrained=control)
    origins = {member: bundle.origin(member) for member in bundle.members}
    return Measured(name=bundle.name, shown=shown, members=found, origins=origins)


def shown_to(bundle: Bundle, *, answers: int) -> Shown:
    """What `measure` will show to the members of a bundle.

    Raises:
        TrainingError: the members' ridge lenses were fitted on different numbers of scenes.
    """
    fits = {read_info(bundle.folder / member / "ridge.lens").n_fit for member in bundle.members}
    if len(fits) > 1:
        raise TrainingError(
            f"The ridge lenses of {bundle.folder} were fitted on different numbers of scenes: {sorted(fits)}. Fit them "
            "alike."
        )
    return Shown(
        answers=answers,
        retention=min(RETENTION, answers),
        fit=fits.pop(),
        photos=PHOTOS,
        scenes=drawn_scenes("test", answers).digest,
    )


def require_comparable(found: Sequence[Measured]) -> None:
    """Refuse to set side by side what was measured differently, or counts one seed twice.

    Raises:
        TrainingError: says what differs.
    """
    first = found[0]
    origins: dict[str, dict[str, Any]] = {}
    seen: dict[tuple[str, int], str] = {}
    prints: set[str] = set()
    for each in found:
        if differ := first.shown.differences(each.shown):
            raise TrainingError(
                f"Bundles {first.name} and {each.name} were not shown the same: {differ}. Measure them alike "
                "(--scenes)."
            )
        for member, result in each.members.items():
            origin = each.origins[member]
            key = (member, origin["seed"])
            if key in seen or result.fingerprint in prints:
                raise TrainingError(
                    f"{member} of bundle {each.name} has seed {origin['seed']}, which is in bundle "
                    f"{seen.get(key, 'another')} too: a seed would count twice. Give bundles that were trained with "
                    "different seeds (--seed)."
                )
            seen[key] = each.name
            prints.add(result.fingerprint)
            known = origins.setdefault(member, origin)
            for name, words in ALIKE.items():
                if known[name] != origin[name]:
                    raise TrainingError(
                        f"Seeds of {member} differ in {words}, not in the seed alone: {known[name]} in bundle "
                        f"{seen[member, known['seed']]}, {origin[name]} in bundle {each.name}."
                    )
            other = next(iter(origins))
            for name in SHARED:
                if origins[other][name] != origin[name]:
                    raise TrainingError(
                        f"{other} and {member} differ in {ALIKE[name]}, so they cannot be compared: "
                        f"{origins[other][name]}, and {origin[name]} in bundle {each.name}."
                    )
        _require_same_questions(first, each)


def _require_same_questions(a: Measured, b: Measured) -> None:
    """What does not depend on a member must be equal, or the checkouts that measured ask or measure differently."""
    one, other = next(iter(a.members.values())), next(iter(b.members.values()))
    pairs: list[tuple[np.ndarray, np.ndarray | None]] = [(one.captions["present"], other.captions["present"])]
    pairs += [
        (columns["asked"], other.answers.get(topic, {}).get("asked"))
        for topic, columns in one.answers.items()
    ]
    for kept, others in ((one.scenes, other.scenes), (one.photos, other.photos)):
        pairs += [(values, others[ENCODER].get(name)) for name, values in kept[ENCODER].items()]
    for mine, theirs in pairs:
        if (
            theirs is None
            or mine.shape != theirs.shape
            or not np.allclose(mine, theirs, rtol=1e-3, atol=1e-4)
        ):
            raise TrainingError(
                f"Bundles {a.name} and {b.name} were measured differently: what does not depend on a member (the "
                "questions, the encoder's own columns) is not the same. Measure both with one checkout."
            )


def together(a: Measured, b: Measured) -> Measured:
    """One bundle whose members were measured at two times.

    Raises:
        TrainingError: they have a member in common, or were not shown the same.
    """
    require_comparable([a, b])
    members, origins = a.members | b.members, a.origins | b.origins
    order = [
        *(name for name in MEMBERS if name in members),
        *(name for name in members if name not in MEMBERS),
    ]
    return replace(
        a,
        members={name: members[name] for name in order},
        origins={name: origins[name] for name in order},
    )


def require_one_seed(bundle: Bundle, kept: Measured | None, *, answers: int) -> None:
    """Refuse, before anything is measured, to keep members together that do not belong together.

    Args:
        bundle: whose members are to be measured.
        kept: what is in the file already, if any.
        answers: held-out scenes that questions are to be asked about.

    Raises:
        TrainingError: their seeds differ, a member is in the file already, or it was shown something else.
    """
    seeds = {bundle.seed(member) for member in bundle.members}
    members = kept.members if kept is not None else {}
    if known := [member for member in bundle.members if member in members]:
        raise TrainingError(f"{', '.join(known)} is in the file already. Name another file.")
    if kept is not None:
        seeds |= {origin["seed"] for origin in kept.origins.values()}
        if differ := kept.shown.differences(shown_to(bundle, answers=answers)):
            raise TrainingError(
                f"The file and this bundle are not shown the same: {differ}. Name another file."
            )
    if len(seeds) > 1:
        raise TrainingError(
            f"Members of one seed are kept together; these have the seeds {', '.join(map(str, sorted(seeds)))}. Name "
            "another file."
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


FIELDS = ("scenes", "photos", "answers", "tuned", "shuffled", "untrained")
"""Fields of Examined that hold columns by place or topic."""


def _kept(found: Examined) -> dict[str, Mapping[str, Mapping[str, np.ndarray]]]:
    return {**{name: getattr(found, name) for name in FIELDS}, "captions": {"": found.captions}}


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
            member: {name: {} for name in (*FIELDS, "captions")} for member in about["members"]
        }
        for name, values in arrays.items():
            member, field, place, column = name.split(SEPARATOR)
            kept[member][field].setdefault(place, {})[column] = values
        if missing := [
            f"{m} {field}" for m, found in kept.items() for field, places in found.items() if not places
        ]:
            raise ValueError(f"no columns of {', '.join(missing)}")
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
            members=members,
            origins=about["origins"],
        )
    except TrainingError:
        raise
    except Exception as error:  # numpy, zipfile and zlib each have their own for damaged bytes
        raise TrainingError(
            f"{path} is not what `python -m training.results BUNDLE --keep FILE` writes ({error!r}). Name a bundle's "
            "folder or such a file."
        ) from error
