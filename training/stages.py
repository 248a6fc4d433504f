"""The stages of a family's training. Each leaves its result in the work folder, and is skipped when it is there."""

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from emma_viz.data.tokenizer import Tokenizer
from emma_viz.models.language_model import MambaLM
from emma_viz.models.vision_pocket import PocketEncoder
from training.encoder import train_encoder
from training.features import encoder_features
from training.joint import JointTask, new_task, train_joint
from training.recipes import FamilyRecipe
from training.scenes import SceneArrays, scene_arrays
from training.text import train_text
from training.tokenizer import tabletop_tokenizer

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "10000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
"""Environment of a training process: one thread each, and memory that is kept between steps instead of given back."""


@dataclass(frozen=True)
class Work:
    """A work folder and the recipe whose results it holds."""

    folder: Path
    recipe: FamilyRecipe

    @cached_property
    def config(self):
        """Any member's model: what the family shares (encoder, language model, prompt style) can be read from it."""
        return next(iter(self.recipe.members.values()))()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The family's tokenizer."""
        path = self.folder / "tokenizer.json"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            tabletop_tokenizer().save(path)
        return Tokenizer.load(path)

    def scenes(self, split: str, count: int) -> SceneArrays:
        """Drawn scenes."""
        return scene_arrays(split, count, self.folder / "scenes")

    @cached_property
    def encoder(self) -> PocketEncoder:
        """The pre-trained, frozen encoder."""
        path, tower = self.folder / "encoder.safetensors", self.config.vision.towers[0]
        if not path.exists():
            recipe = self.recipe.encoder
            data = self.scenes("train", recipe.scenes)
            encoder, minutes = train_encoder(
                recipe, tower, data, self.scenes("val", 300), self.folder / "encoder"
            )
            _save(encoder, path, minutes=minutes)
        return _load(PocketEncoder(tower), path).eval().requires_grad_(False)

    def features(self, split: str, count: int) -> np.ndarray:
        """The encoder's tokens of the first scenes of a split."""
        path = self.folder / "features" / f"{split}-{count}.npy"
        return encoder_features(self.encoder, self.scenes(split, count), path)

    @cached_property
    def language_model(self) -> MambaLM:
        """The language model that has read text alone."""
        path = self.folder / "text.safetensors"
        if not path.exists():
            style = self.config.prompt_style
            model, minutes = train_text(
                self.recipe.text, self.config.llm, self.tokenizer, style, self.folder / "text"
            )
            _save(model, path, minutes=minutes)
        return _load(MambaLM(self.config.llm), path)

    def joint(self, member: str, *, progress: bool = True) -> JointTask:
        """A trained member: its VLM and, for EMMA, its pixel head."""
        recipe = self.recipe.joint
        sample = torch.from_numpy(np.array(self.features("train", recipe.scenes)[:32])).float()
        task = new_task(recipe, self.recipe.members[member](), features=sample, llm=self.language_model)
        path = self.folder / f"{member}.safetensors"
        if not path.exists():
            images, features = (
                self.scenes("train", recipe.scenes).images,
                self.features("train", recipe.scenes),
            )
            folder = self.folder / "joint" / member
            minutes = train_joint(recipe, task, self.tokenizer, images, features, folder, progress=progress)
            task.vlm.vision.towers["pocket"].load_state_dict(self.encoder.state_dict())
            _save(task, path, minutes=minutes)
        return _load(task, path).eval()

    def minutes(self) -> dict[str, float]:
        """Minutes of training per finished stage."""
        found = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            found[path.stem] = round(float(_metadata(path)["minutes"]), 1)
        return found


def train_members(work: Work, members: list[str]) -> None:
    """Train several members at the same time, one thread each, in processes of their own."""
    _ = work.features("train", work.recipe.joint.scenes), work.language_model
    environment = {**os.environ, **ONE_THREAD}
    running = []
    for member in members:
        command = [
            sys.executable,
            "-m",
            "training.train",
            "joint",
            "--recipe",
            member,
            "--work",
            str(work.folder),
        ]
        running.append((member, subprocess.Popen(command, env=environment)))
    for member, process in running:
        if process.wait() != 0:
            raise SystemExit(
                f"Training {member} ended with code {process.returncode}; see its messages above."
            )


def _save(module: torch.nn.Module, path: Path, *, minutes: float) -> None:
    temporary = path.with_suffix(".tmp")
    state = {
        key: value.contiguous()
        for key, value in module.state_dict().items()
        if not key.endswith("lm_head.weight")
    }
    save_file(state, temporary, metadata={"minutes": str(minutes)})
    os.replace(temporary, path)


def _load(module, path: Path):
    missing, unknown = module.load_state_dict(load_file(path), strict=False)
    assert not unknown
    assert all(key.endswith("lm_head.weight") for key in missing), missing
    return module


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return file.metadata()
