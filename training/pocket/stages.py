"""The stages of a family's training. Each leaves its result in the work folder, and is skipped when it is there."""

import json
import subprocess
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from emma_viz.cli import programs
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.errors import TrainingError
from emma_viz.files.atomic import write_file
from emma_viz.files.json_door import parse_json
from emma_viz.models.config import VLMConfig
from emma_viz.models.language_model import MambaLM
from emma_viz.models.towers.pocket import PocketEncoder
from training.loop.checkpoints import leaves
from training.loop.config import as_record
from training.loop.older import in_todays_words
from training.loop.provenance import NOT_RECORDED, commit
from training.pocket.encoder import encoder_features, train_encoder
from training.pocket.joint import asked_of_scene, new_task, train_joint
from training.pocket.questions import answer_scores
from training.pocket.recipes import FAMILIES, FamilyRecipe
from training.pocket.scenes import SceneArrays, scene_arrays
from training.pocket.text import train_text
from training.pocket.tokenizer import tabletop_tokenizer
from training.vision_language.batch import known_images
from training.vision_language.recipe import Recipe
from training.vision_language.scene_batches import SceneBatches
from training.vision_language.task import VisionLanguageTask

Module = TypeVar("Module", bound=torch.nn.Module)
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "10000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
"""Environment of a training process: one thread each, and memory that is kept between steps instead of given back."""

SCALED_BY = 32
"""Training scenes whose features a fresh projector is scaled by, the first of the split."""


@dataclass(frozen=True)
class Work:
    """A work folder and the recipe whose results it holds."""

    folder: Path
    name: str
    """The family's name in FAMILIES."""

    @cached_property
    def recipe(self) -> FamilyRecipe:
        """The family's recipe."""
        return FAMILIES[self.name]()

    @cached_property
    def config(self) -> VLMConfig:
        """Any member's model: what all of the family share, such as the encoder, can be read from it."""
        return next(iter(self.recipe.members.values())).model()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The family's tokenizer.

        Raises:
            TrainingError: it has more tokens than the models have room for.
        """
        path = self.folder / "tokenizer.json"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            tabletop_tokenizer().save(path)
        found, room = Tokenizer.load(path), self.config.llm.vocab_size
        if found.vocab_size > room:
            raise TrainingError(
                f"{path} has {found.vocab_size} tokens and the model of the family {self.name} has room for {room}: "
                "raise its vocab_size in the preset."
            )
        return found

    def scenes(self, split: str, count: int) -> SceneArrays:
        """Drawn scenes."""
        return scene_arrays(split, count, self.folder / "scenes")

    @property
    def has_encoder(self) -> bool:
        """Whether the encoder is trained."""
        return (self.folder / "encoder.safetensors").exists()

    def pretrain_encoder(self) -> None:
        """Train the encoder, unless it is there and can be read."""
        if self.has_encoder:
            _ = self.encoder
            return
        recipe, tower = self.recipe.encoder, self.config.vision.towers[0]
        data, held_out = self.scenes("train", recipe.scenes), self.scenes("val", 300)
        encoder, minutes = train_encoder(recipe, tower, data, held_out, self.folder / "encoder")
        path = self.folder / "encoder.safetensors"
        keep(encoder, path, minutes=minutes, commit=commit(), recipe=as_record(recipe))

    @cached_property
    def encoder(self) -> PocketEncoder:
        """The pre-trained, frozen encoder.

        Raises:
            TrainingError: it is not trained yet, another recipe made it, or its file is damaged.
        """
        if not self.has_encoder:
            raise TrainingError(
                f"{self.folder} has no encoder yet: `emma-viz train encoder --recipe {self.name} --work {self.folder}` "
                "trains it."
            )
        require_recipe(self.folder / "encoder.safetensors", as_record(self.recipe.encoder))
        tower = PocketEncoder(self.config.vision.towers[0])
        return read_stage(tower, self.folder / "encoder.safetensors").eval().requires_grad_(False)

    def features(self, split: str, count: int) -> np.ndarray:
        """The encoder's tokens of the first scenes of a split."""
        path = self.folder / "features" / f"{split}-{count}.npy"
        return encoder_features(self.encoder, self.scenes(split, count), path)

    @cached_property
    def language_models(self) -> dict[str, VLMConfig]:
        """Language model → a member that has it."""
        configs = [member.model() for member in self.recipe.members.values()]
        return {config.llm_backbone_id: config for config in reversed(configs)}

    def language_model(self, name: str) -> MambaLM:
        """One of the family's language models, when it has read text alone.

        Raises:
            TrainingError: no member has it, or another recipe made it.
        """
        if name not in self.language_models:
            known = ", ".join(self.language_models)
            raise TrainingError(f"The family {self.name} has the language models {known}; got {name!r}.")
        config = self.language_models[name]
        path = self.folder / text_file(name)
        if not path.exists():
            shared = (self.recipe.text, config.llm, self.tokenizer, config.prompt_style)
            model, minutes = train_text(*shared, self.folder / f"text-{name}")
            keep(model, path, minutes=minutes, commit=commit(), recipe=as_record(self.recipe.text))
        require_recipe(path, as_record(self.recipe.text))
        return read_text_model(config, path)

    def start(self, member: str, *, seed: int = 0) -> VisionLanguageTask:
        """A member as joint training finds it: fresh projector, language model that has read text alone."""
        config, recipe = self.recipe.members[member].model(), self.recipe.of_member(member, seed=seed)
        sample = torch.from_numpy(np.array(self.features("train", self.recipe.scenes)[:SCALED_BY])).float()
        llm = self.language_model(config.llm_backbone_id)
        return new_task(recipe, config, features=sample, llm=llm)

    def batches(self, recipe: Recipe, config: VLMConfig) -> SceneBatches:
        """What a member is trained on."""
        images = self.scenes("train", self.recipe.scenes).images
        features = self.features("train", self.recipe.scenes)
        return SceneBatches(
            recipe=recipe,
            style=config.prompt_style,
            tokenizer=self.tokenizer,
            count=len(features),
            shown=partial(known_images, images, features, patch=config.vision.patch),
            asked=lambda phase, number, epoch: asked_of_scene(recipe.phases[phase], number, epoch),
        )

    def joint(self, member: str, *, seed: int = 0, progress: bool = True) -> VisionLanguageTask:
        """A trained member: its VLM and, for EMMA, its pixel head.

        Args:
            member: its name.
            seed: of the fresh projector and of the order of the data; the same for members that are compared.
            progress: whether to show a bar.
        """
        self.pretrain_encoder()
        recipe, task = self.recipe.of_member(member, seed=seed), self.start(member, seed=seed)

        def train() -> float:
            held_out = self.features("val", self.recipe.scored_scenes)
            minutes = train_joint(
                self.batches(recipe, task.vlm.config),
                task,
                self.run_folder(member, seed),
                data={"scenes": self.recipe.scenes},
                ask=lambda _: answer_scores(task.vlm, held_out, self.tokenizer, split="val"),
                score_every=self.recipe.score_every,
                progress=progress,
            )
            task.vlm.vision.towers["pocket"].load_state_dict(self.encoder.state_dict())
            return minutes

        path = self.folder / f"{run_name(member, seed)}.safetensors"
        return finished(task, path, train, recipe=self._joint_record(recipe))

    def _joint_record(self, recipe: Recipe) -> dict[str, Any]:
        """All that made a member: its recipe, the stages before, and how many scenes."""
        before = {"encoder": as_record(self.recipe.encoder), "text": as_record(self.recipe.text)}
        return {**recipe.record(), "before": before, "data": {"scenes": self.recipe.scenes}}

    def stages(self, members: Sequence[str], *, seed: int = 0) -> dict[str, Path]:
        """The stages that members need, in the order of training, with the file of each, which is there when it is
        finished.

        Raises:
            TrainingError: one of them is finished, and another recipe made it.
        """
        family = self.recipe
        texts = dict.fromkeys(family.members[member].model().llm_backbone_id for member in members)
        found = [("encoder", self.folder / "encoder.safetensors", as_record(family.encoder))]
        found += [(f"text {name}", self.folder / text_file(name), as_record(family.text)) for name in texts]
        found += [
            (
                f"joint {member}",
                self.folder / f"{run_name(member, seed)}.safetensors",
                self._joint_record(family.of_member(member, seed=seed)),
            )
            for member in members
        ]
        for _, path, recipe in found:
            if path.exists():
                require_recipe(path, recipe)
        return {name: path for name, path, _ in found}

    def run_folder(self, member: str, seed: int) -> Path:
        """Where a member's joint run keeps checkpoints, metrics and scores."""
        return self.folder / "joint" / run_name(member, seed)

    def record(self, stage: str) -> "StageRecord":
        """What is kept of a finished stage."""
        return stage_record(self.folder / f"{stage}.safetensors")


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """What is kept beside a stage's weights."""

    minutes: float
    """That it took."""
    commit: str
    """That was checked out at its end."""


def text_file(name: str) -> str:
    """The file of a language model that has read text alone, in a work folder and in a bundle."""
    return f"text-{name}.safetensors"


def read_text_model(config: VLMConfig, path: Path) -> MambaLM:
    """A model's language model as it was when it had read text alone."""
    return read_stage(MambaLM(config.llm), path)


def run_name(member: str, seed: int) -> str:
    """The name of a member's run in the work folder."""
    return f"{member}-seed{seed}" if seed else member


def train_members(work: Work, members: Sequence[str], *, seed: int = 0) -> None:
    """Train members and all that they need, in processes of their own, two at a time, one thread each.

    Raises:
        TrainingError: a stage is finished, and another recipe made it; or one failed.
    """
    print(planned(work.stages(members, seed=seed)), flush=True)
    _ = work.tokenizer
    shared = [["encoder", "--recipe", work.name]]
    for name in dict.fromkeys(work.recipe.members[m].model().llm_backbone_id for m in members):
        shared.append(["text", "--recipe", work.name, "--llm", name])
    _train_side_by_side(work, shared)
    for split, count in (("train", work.recipe.scenes), ("val", work.recipe.scored_scenes)):
        _ = work.features(split, count)
    _train_side_by_side(work, [["joint", "--recipe", member, "--seed", str(seed)] for member in members])


def planned(stages: Mapping[str, Path]) -> str:
    """The stages that are to be trained, and those that are finished, in words; `stages`: of `Work.stages`."""
    done = [name for name, path in stages.items() if path.exists()]
    to_do = [name for name in stages if name not in done]
    said = f"to be trained: {', '.join(to_do) or 'nothing'}"
    return said + (f"; finished already: {', '.join(done)}" if done else "")


def _train_side_by_side(work: Work, commands: Sequence[list[str]]) -> None:
    side_by_side("emma_viz", [["train", *command, "--work", str(work.folder)] for command in commands])


def side_by_side(module: str, commands: Sequence[list[str]]) -> None:
    """Run a module with each of some arguments, two at a time, one thread each: the next starts when one ends.

    Raises:
        TrainingError: one of them failed; its own message stands above. What runs beside it ends first, and no other
            is started.
    """

    def run(command: list[str]) -> int:
        start, environment = programs.process(module, command)
        return subprocess.run(start, env={**environment, **ONE_THREAD}, check=False).returncode

    with ThreadPoolExecutor(2) as pool:
        running = {pool.submit(run, command): command for command in commands}
        try:
            for done in as_completed(running):
                if code := done.result():
                    raise TrainingError(
                        f"`python -m {module} {' '.join(running[done])}` ended with code {code}; its message stands "
                        "above. Mend the cause and run again: what is finished is kept, and the rest resumes."
                    )
        finally:
            pool.shutdown(cancel_futures=True)


def keep(
    module: torch.nn.Module, path: Path, *, minutes: float, commit: str, recipe: Mapping[str, Any]
) -> None:
    """Write a stage's result in half precision, as it is bundled: later stages start from just what is shipped.

    Args:
        module: what was trained.
        path: the file.
        minutes: how long it took.
        commit: the commit that was checked out.
        recipe: that it was trained by, as plain data.
    """
    state = {
        key: value.half().contiguous()
        for key, value in module.state_dict().items()
        if not key.endswith("lm_head.weight")
    }
    metadata = {"minutes": str(minutes), "commit": commit, "recipe": json.dumps(recipe)}
    write_file(path, lambda part: save_file(state, part, metadata=metadata))


def finished(module: Module, path: Path, train: Callable[[], float], *, recipe: Mapping[str, Any]) -> Module:
    """A stage's module as its file has it; where there is no file it is trained first.

    Args:
        module: at its start; trained and filled in place.
        path: the file.
        train: trains the module and returns minutes.
        recipe: that it is trained by, as plain data.

    Raises:
        TrainingError: the file is damaged, of another module, or another recipe made it.
    """
    if not path.exists():
        minutes = train()
        keep(module, path, minutes=minutes, commit=commit(), recipe=recipe)
    require_recipe(path, recipe)
    return read_stage(module, path).eval()


def require_recipe(path: Path, recipe: Mapping[str, Any]) -> None:
    """Refuse a finished stage that another recipe made; how often it saved checkpoints makes no difference.

    A stage that was finished before stages kept their recipe is taken as it is.

    Args:
        path: of the stage's file.
        recipe: that its result is to be called by, as plain data.

    Raises:
        TrainingError: the recipes differ, or the file is damaged.
    """
    with _opened(path) as file:
        kept = (file.metadata() or {}).get("recipe")
    if kept is None:
        return
    before = dict(leaves(in_todays_words(parse_json(kept, where=str(path), error=TrainingError))))
    now = dict(leaves(json.loads(json.dumps(recipe))))
    if differ := [
        f"{name} {before.get(name)!r}, now {now.get(name)!r}"
        for name in {**before, **now}
        if before.get(name) != now.get(name) and name.rpartition(".")[2] != "save_every"
    ]:
        raise TrainingError(
            f"{path} is finished, by another recipe ({'; '.join(differ)}). Name another work folder (--work), or "
            "remove the file, and its stage is run again."
        )


def read_stage(module: Module, path: Path) -> Module:
    """Fill a module in place with what a stage left; a tied head is not in the file.

    Raises:
        TrainingError: the file is damaged, or of another module.
    """
    with _opened(path) as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    try:
        missing, unknown = module.load_state_dict(state, strict=False)
    except RuntimeError as error:  # other shapes
        raise TrainingError(
            f"{path} is of another model ({error}). Name another work folder (--work)."
        ) from error
    if odd := [*unknown, *(key for key in missing if not key.endswith("lm_head.weight"))]:
        raise TrainingError(
            f"{path} is of another model: {', '.join(odd[:4])} is in one of the two alone. Name another work folder "
            "(--work)."
        )
    return module


def stage_record(path: Path) -> StageRecord:
    """What `keep` wrote beside a stage's weights.

    Raises:
        TrainingError: the file is damaged, or `keep` did not write it.
    """
    with _opened(path) as file:
        kept = file.metadata() or {}
    try:
        return StageRecord(minutes=round(float(kept["minutes"]), 1), commit=kept.get("commit", NOT_RECORDED))
    except (KeyError, ValueError) as error:
        raise TrainingError(
            f"{path} does not say how many minutes its stage took. Remove it, and its stage is run again."
        ) from error


@contextmanager
def _opened(path: Path) -> Generator[Any]:
    try:
        with safe_open(path, "pt") as file:
            yield file
    except SafetensorError as error:
        raise TrainingError(
            f"{path} cannot be read: {error}. Remove it, and its stage is run again."
        ) from error
