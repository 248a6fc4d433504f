"""Trained bundles, read: their members, where each comes from, and what each began from."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from emma_viz.checkpoints import BUNDLED, LoadedModel, load_model
from emma_viz.errors import TrainingError
from emma_viz.lens.headers import read_info
from emma_viz.models.vlm import VLM
from training.pocket.encoder import normalise
from training.pocket.joint import new_task
from training.pocket.recipes import FAMILIES, family_of, in_order
from training.pocket.scenes import drawn_scenes
from training.pocket.stages import SCALED_BY, commit, read_text_model, text_file
from training.results.examination import weights_digest


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
        """What the page prints of a member's provenance, and what must be equal in all seeds of the member
        (`comparable.ALIKE`); what was not recorded is said to be so."""
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
            "trained_at": kept.get("trained_at", {}),
            "data": kept.get("data", {}).get("digest", unknown),
            "minutes": kept.get("minutes", {}),
            "scores": kept.get("scores", []),
            "measured_at": commit(),
            "tokenizer": kept.get("tokenizer", unknown),
            "joint": joint or unknown,
            "lenses": {kind: [info.n_fit, *info.notes] for kind, info in lenses.items()},
            **{name: weights_digest(path) if path.exists() else unknown for name, path in files.items()},
        }


def open_bundle(folder: Path) -> Bundle:
    """Look which members a bundle has.

    Raises:
        TrainingError: it has none.
    """
    found = {path.parent.name for path in folder.glob("*/config.json")}
    if not found:
        raise TrainingError(
            f"{folder} holds no model. A bundle has a folder with a config.json for each; make one with "
            "`python -m training.train pocket-pair`."
        )
    return Bundle(folder=folder, members=tuple(in_order(sorted(found))))


def untrained_model(bundle: Bundle, model: LoadedModel, member: str) -> VLM:
    """The control: the member as joint training found it, before its first step.

    Raises:
        TrainingError: the bundle has no language model that has read text alone.
    """
    path = bundle.folder / text_file(model.config.llm_backbone_id)
    if not path.exists():
        raise TrainingError(
            f"{path} is missing: {member} is compared with what its training began from. "
            "`python -m training.train pocket-pair` writes it beside the models."
        )
    recipe = FAMILIES[family_of(member)]().joint
    recipe = replace(recipe, optimisation=replace(recipe.optimisation, seed=bundle.seed(member)))
    scenes = drawn_scenes("train", SCALED_BY)
    with torch.inference_mode():
        features = model.vlm.vision([normalise(scenes.images)]).half().float()
    llm = read_text_model(model.config, path)
    return new_task(recipe, model.config, features=features, llm=llm).vlm.eval()
