"""Trained bundles, read: their members, where each comes from, and what each began from."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from emma_viz.checkpoints import BUNDLED, LoadedModel, load_model
from emma_viz.checkpoints.model_files import TOKENIZER
from emma_viz.checkpoints.run_config import read_config, vlm_config
from emma_viz.errors import TrainingError
from emma_viz.files.inside import inside
from emma_viz.lens.headers import read_info
from emma_viz.models.config import VLMConfig
from emma_viz.models.vlm import VLM
from training.loop.older import in_todays_words
from training.loop.provenance import NOT_RECORDED, Provenance, commit, file_digest, read_provenance
from training.pocket.encoder import normalised_images
from training.pocket.joint import new_task
from training.pocket.recipes import FAMILIES, family_of, in_order
from training.pocket.scenes import drawn_scenes
from training.pocket.stages import SCALED_BY, read_text_model, text_file


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
        return self._named(member, f"{self._config(member).vision.backbone_id}.safetensors")

    def text(self, member: str) -> Path:
        """The file of a member's language model when it had read text alone; a bundle may lack it."""
        return self._named(member, text_file(self._config(member).llm_backbone_id))

    def provenance(self, member: str) -> Provenance:
        """Where a member comes from."""
        return read_provenance(self._config_file(member))

    def seed(self, member: str) -> int:
        """The seed of a member's joint stage.

        Raises:
            TrainingError: the member does not say, so its control cannot be made.
        """
        seed = self.provenance(member).seed
        if seed is None:
            raise TrainingError(
                f"{self._config_file(member)} records no seed, so {member} cannot be compared with what its "
                "training began from. Bundle it with `python -m training.train pocket-family`."
            )
        return seed

    def _config_file(self, member: str) -> Path:
        return self.folder / member / "config.json"

    def _config(self, member: str) -> VLMConfig:
        path = self._config_file(member)
        return vlm_config(read_config(path), where=str(path))

    def _named(self, member: str, name: str) -> Path:
        """A file of the bundle that a member's config.json names."""
        return inside(self.folder, name, error=TrainingError, where=str(self._config_file(member)))

    def load(self, member: str) -> LoadedModel:
        """A member with the bundle's own encoder and tokenizer."""
        own, shared = self.folder / member / TOKENIZER, bundle_tokenizer(self.folder)
        return load_model(
            self.folder / member,
            vision_source=self.encoder(member),
            tokenizer_source=shared if shared.exists() and not own.exists() else None,
        )

    def origin(self, member: str) -> dict[str, Any]:
        """What the page prints of a member's provenance, and what must be equal in all seeds of the member
        (`comparable.ALIKE`); what was not recorded is said to be so."""
        kept = self.provenance(member)
        files = {"encoder": self.encoder(member), "text": self.text(member)}
        lenses = {kind: read_info(self.folder / member / f"{kind}.lens") for kind in ("ridge", "tuned")}
        return {
            "seed": self.seed(member),
            "command": kept.command,
            "commit": kept.commit,
            "trained_at": kept.trained_at,
            "data": kept.data.get("digest", NOT_RECORDED),
            "minutes": kept.minutes,
            "scores": kept.scores,
            "measured_at": commit(),
            "tokenizer": kept.tokenizer,
            "joint": shared_settings(kept.joint) or NOT_RECORDED,
            "lenses": {kind: [info.n_fit, *info.notes] for kind, info in lenses.items()},
            **{name: weights_digest(path) if path.exists() else NOT_RECORDED for name, path in files.items()},
        }


def shared_settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What members that are compared have in common of a recipe as config.json has it, or as this gave it.

    Args:
        recipe: of the joint stage, in this checkout's words or earlier ones.
    """
    own = (
        "model",
        "seed",
        "save_every",
        "scenes",
        "micro",
        "precision",
        "gradient_checkpointing",
        "objective",
    )
    found = in_todays_words(recipe)
    weight = {"weight": found["objective"]["weight"]} if "objective" in found else {}
    return {**{name: value for name, value in found.items() if name not in own}, **weight}


def bundle_tokenizer(folder: Path) -> Path:
    """Where the tokenizer that a bundle's members share lies, or would lie.

    That is beside them, but in a checkout's or installed package's `emma_viz/checkpoints/bundled` it is the data's.
    """
    place = folder.resolve()
    return place.parents[1] / "data" / "bundled" / TOKENIZER if ships(folder) else folder / TOKENIZER


def ships(bundle: Path) -> bool:
    """Whether a folder is that of the models that ship: this package's, another checkout's or installed one's."""
    return bundle.resolve().parts[-3:] == BUNDLED.parts[-3:]


def require_whole(bundle: Path, encoder: Path, tokenizer: Path, *, recorded: str, command: str) -> None:
    """Refuse a bundle without its encoder or tokenizer, or with another tokenizer than its members were trained with.

    Args:
        bundle: what the user named.
        encoder: its file of the encoder.
        tokenizer: its `tokenizer.json`.
        recorded: the digest of the tokenizer in a member's provenance.
        command: that writes bundles, for the message.

    Raises:
        TrainingError: it is one of these.
    """
    mend = (
        f"Name a whole bundle, as `{command}` writes it, or {'/'.join(BUNDLED.parts[-3:])} in a whole checkout of the "
        "project (--start)."
    )
    if missing := [str(path) for path in (encoder, tokenizer) if not path.is_file()]:
        raise TrainingError(
            f"{bundle} is no whole bundle: expected the encoder and the tokenizer of its members, and there is no "
            f"{' and no '.join(missing)}. {mend}"
        )
    if recorded not in (NOT_RECORDED, digest := file_digest(tokenizer)):
        raise TrainingError(
            f"{tokenizer} is not the tokenizer of the members of {bundle}: expected the digest {recorded} that they "
            f"record, got {digest}. {mend}"
        )


def open_bundle(folder: Path, *, world: str = "tabletop") -> Bundle:
    """Look which members a bundle has.

    Args:
        folder: with a folder a member.
        world: that they were trained in; members of another are left out.

    Raises:
        TrainingError: it has none.
    """
    found = {
        path.parent.name
        for path in folder.glob("*/config.json")
        if read_provenance(path).data.get("world", "tabletop") == world
    }
    if not found:
        raise TrainingError(
            f"{folder} holds no model of the world {world}. A bundle has a folder with a config.json for each; make "
            "one with `python -m training.train pocket-pair` or, on photographs, `python -m training.photos pair`."
        )
    return Bundle(folder=folder, members=tuple(in_order(sorted(found))))


def untrained_model(bundle: Bundle, model: LoadedModel, member: str) -> VLM:
    """The control: the member as joint training found it, before its first step.

    Raises:
        TrainingError: the bundle has no language model that has read text alone.
    """
    path = bundle.text(member)
    if not path.exists():
        raise TrainingError(
            f"{path} is missing: {member} is compared with what its training began from. "
            "`python -m training.train pocket-pair` writes it beside the models. An installed wheel leaves it out; a "
            "checkout has it."
        )
    recipe = FAMILIES[family_of(member)]().of_member(member, seed=bundle.seed(member))
    scenes = drawn_scenes("train", SCALED_BY)
    with torch.inference_mode():
        features = model.vlm.vision([normalised_images(scenes.images)]).half().float()
    llm = read_text_model(model.config, path)
    return new_task(recipe, model.config, features=features, llm=llm).vlm.eval()


def weights_digest(path: Path) -> str:
    """Tells safetensors files apart by their tensors; what else their headers say, such as a time, does not count."""
    found = hashlib.sha256()
    for name, tensor in sorted(load_file(path).items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]
