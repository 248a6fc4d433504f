"""Joint training: text loss for Cobra; text and pixel loss, through fusion and pixel decoder, for EMMA."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from emma_viz.data.tabletop import SceneTurn
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.errors import TrainingError
from emma_viz.files.atomic import write_file
from emma_viz.files.json_door import TABLE, parse_json, read_bytes
from emma_viz.files.schema import Count, shape
from emma_viz.models.config import VLMConfig
from emma_viz.models.language_model import MambaLM
from emma_viz.models.vlm import VLM
from training.loop.config import JointRecipe, as_record
from training.loop.run import Run
from training.pocket.questions import answer_scores
from training.pocket.streams import SceneStream, asked_of_scene
from training.vision_language.batch import BatchImages, ForkedBatch, known_images, make_forks
from training.vision_language.objective import Objective
from training.vision_language.pooling import POOL
from training.vision_language.task import VisionLanguageTask

SCORES = "scores.jsonl"
"""In a run's folder: a line each time that questions were asked."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A line of SCORES."""

    step: Count
    minutes: float
    accuracy: dict[str, float]
    """Topic → share of right answers."""


@torch.no_grad()
def smooth_positions(vlm: VLM) -> None:
    """Start row and column embeddings as smooth curves in a few directions.

    Independent random rows and columns would span 30 directions of the stream, and hide that much of the image
    from any linear lens before training has begun.
    """
    if not vlm.config.projector.positions:
        return
    std = vlm.config.projector.position_std
    for table in (vlm.projector.row, vlm.projector.col):
        place = torch.linspace(-1, 1, len(table))
        curves = torch.stack([place, torch.tanh(6 * place), torch.cos(torch.pi * place)], dim=1)
        curves = curves / curves.pow(2).mean(0).sqrt()
        table.copy_(curves @ torch.randn(3, table.shape[1]) * (std / 3**0.5))


@torch.no_grad()
def scale_projector(vlm: VLM, features: Float[Tensor, "B T F"]) -> None:
    """Make the image's share of a fresh image token vary with a standard deviation of 1.

    PyTorch's default start of three linear layers shrinks it to a few hundredths, far below the position
    embeddings that are added to it, and training spends its first hundreds of steps on growing it.
    """
    last = [module for module in vlm.projector.projector.modules() if isinstance(module, nn.Linear)][-1]
    spread = vlm.projector.projector(features).flatten(0, 1).std(0).mean()
    last.weight.div_(spread)


def new_task(
    recipe: JointRecipe,
    config: VLMConfig,
    *,
    features: Float[Tensor, "B T F"] | None,
    llm: MambaLM | None = None,
    fusion: bool = True,
) -> VisionLanguageTask:
    """A task at its start. Models that differ only in their losses start equal.

    Args:
        recipe: its seed decides the fresh projector.
        config: the model.
        features: of some images, to scale the projector by; it stays as PyTorch starts it when None.
        llm: the language model to start from; a fresh one when None.
        fusion: False for −MFF.
    """
    torch.manual_seed(recipe.optimisation.seed)
    vlm = VLM(config)
    smooth_positions(vlm)
    if features is not None:
        scale_projector(vlm, features)
    # The head is made last, so that it takes no random number from what the models share.
    task = VisionLanguageTask(vlm, objective_of(recipe, config, fusion=fusion))
    if llm is not None:
        task.vlm.llm.load_state_dict(llm.state_dict())
    return task


def objective_of(recipe: JointRecipe, config: VLMConfig, *, fusion: bool = True) -> Objective:
    """The losses of a model: those that it is made for, with the recipe's weight.

    Args:
        recipe: of its family.
        config: the model.
        fusion: False for −MFF.
    """
    pixels = "none" if config.lens_form is None else config.lens_form
    return Objective(pixels=pixels, weight=recipe.pixel_weight, fusion=fusion)


def phase_of(recipe: JointRecipe, step: int) -> tuple[int, int]:
    """The phase that a step belongs to, and its place in that phase."""
    ends = np.cumsum([phase.steps for phase in recipe.phases])
    number = int(np.searchsorted(ends, step, side="right"))
    return number, step - (int(ends[number - 1]) if number else 0)


def train_joint(
    recipe: JointRecipe,
    task: VisionLanguageTask,
    tokenizer: Tokenizer,
    images: np.ndarray,
    features: np.ndarray,
    folder: Path,
    *,
    held_out: np.ndarray,
    progress: bool = True,
) -> float:
    """Train a task in place; now and then its answers about validation scenes are scored (`read_scores`).

    A run that resumes asks first what it was stopped from asking at its checkpoint, so no line of the scores is lost.

    Args:
        recipe: the settings.
        task: from `new_task`.
        tokenizer: the model's.
        images: uint8 (n, S, S, 3), train scenes 0 … n − 1.
        features: (n, T, F), the encoder's features of those.
        folder: for checkpoints, metrics and scores.
        held_out: (m, T, F), the encoder's features of the first validation scenes.
        progress: whether to show a bar.

    Returns:
        Minutes.
    """

    def ask(step: int) -> Mapping[str, Mapping[str, float]]:
        return answer_scores(task.vlm, held_out, tokenizer, split="val")

    return run_joint_task(
        recipe,
        task,
        tokenizer,
        folder,
        count=len(features),
        shown=partial(known_images, images, features, patch=task.vlm.config.vision.patch),
        asked=partial(asked_of_scene, recipe.phases),
        ask=ask,
        progress=progress,
    )


def run_joint_task(
    recipe: JointRecipe,
    task: VisionLanguageTask,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    count: int,
    shown: Callable[[np.ndarray], BatchImages],
    asked: Callable[[int, int, int], list[SceneTurn]],
    ask: Callable[[int], Mapping[str, Mapping[str, float]]],
    identity: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> float:
    """Train a task in place, whatever its images and questions are; what `train_joint` says holds here too.

    Args:
        recipe: the settings.
        task: from `new_task`.
        tokenizer: the model's.
        folder: for checkpoints, metrics and scores.
        count: training images, by number from 0.
        shown: numbers → the images.
        asked: (phase, number, epoch) → the questions about an image; a function of its arguments alone.
        ask: step → the answers about validation images, as `answer_scores` gives them.
        identity: what must be the same in a run that resumes here, besides the recipe.
        progress: whether to show a bar.

    Returns:
        Minutes.
    """
    streams = [
        SceneStream(
            batch=phase.batch,
            count=count,
            seed=(recipe.optimisation.seed, number),
            asked=partial(asked, number),
        )
        for number, phase in enumerate(recipe.phases)
    ]
    settings = replace(recipe.optimisation, slower=(("vlm.projector.", recipe.projector_rate),))

    def loss_of_step(step: int):
        number, place = phase_of(recipe, step)
        pooled = recipe.phases[number].pooled
        rows, turns = streams[number].batch_of(place)
        images, forks = shown(rows), make_forks(turns, tokenizer, task.vlm.config.prompt_style)
        batch = ForkedBatch(images=images, forks=forks, pooled=pooled)
        n_image = task.vlm.n_image_tokens // (POOL**2 if pooled else 1)
        tokens = float(len(rows) * n_image + batch.tokens)
        loss, numbers = task(batch, labels=batch.n_labels, images=len(rows))
        return loss, {**numbers, "tokens": tokens}

    def score(step: int, minutes: float) -> None:
        if step % recipe.score_every == 0 or step == settings.steps:
            add_scores(folder, step, minutes, ask(step))

    whole = {**as_record(recipe), **(identity or {})}
    run = Run(task, settings, folder, title=recipe.model, identity=whole, tensorboard=True)
    if run.first and run.first not in [each["step"] for each in read_scores(folder)]:
        score(run.first, run.minutes)
    return run.train(lambda step: [lambda: loss_of_step(step)], progress=progress, on_checkpoint=score)


def add_scores(folder: Path, step: int, minutes: float, found: Mapping[str, Mapping[str, float]]) -> None:
    """Write the answers of a step (from `answer_scores`) to a run's scores, in place of those from that step on."""
    accuracy = {topic: round(each["accuracy"], 4) for topic, each in found.items()}
    line = {"step": step, "minutes": round(minutes, 2), "accuracy": accuracy}
    lines = [*(each for each in read_scores(folder) if each["step"] < step), line]
    text = "".join(json.dumps(each) + "\n" for each in lines)
    write_file(folder / SCORES, lambda part: part.write_text(text, encoding="utf-8"))


def read_scores(folder: Path) -> list[dict[str, Any]]:
    """Share of right answers about validation scenes during a run: {"step", "minutes", "accuracy": topic → share}.

    In the order of the steps; none for a run that asked no questions.
    """
    path = folder / SCORES
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(
        read_bytes(path, limit=TABLE.size, error=TrainingError).splitlines(), start=1
    ):
        where = f"{path}, line {number}"
        value = parse_json(line, where=where, error=TrainingError)
        found.append(asdict(shape(value, Scored, where=where, error=TrainingError)))
    return found
