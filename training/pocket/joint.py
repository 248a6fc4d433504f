"""Joint training: text loss for Cobra; text and pixel loss, through fusion and pixel decoder, for EMMA."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from emma_viz.data.tabletop import SceneTurn, caption_turn, make_scene, questions, stream
from emma_viz.errors import TrainingError
from emma_viz.models.config import VLMConfig
from emma_viz.models.language_model import MambaLM
from emma_viz.models.vlm import VLM
from training.loop.run import Run
from training.pocket.scores import add_scores, read_scores
from training.vision_language.recipe import Phase, Recipe
from training.vision_language.scene_batches import SceneBatches
from training.vision_language.steps import take_steps
from training.vision_language.task import VisionLanguageTask

FIRST_QUESTIONS = 2
"""Purpose number of a scene's first random stream of questions; epoch e uses FIRST_QUESTIONS + e."""


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
    recipe: Recipe,
    config: VLMConfig,
    *,
    features: Float[Tensor, "B T F"] | None,
    llm: MambaLM | None = None,
) -> VisionLanguageTask:
    """A task at its start. Models that differ only in their losses start equal.

    Args:
        recipe: the member's; its seed decides the fresh projector.
        config: the model.
        features: of some images, to scale the projector by; it stays as PyTorch starts it when None.
        llm: the language model to start from; a fresh one when None.
    """
    torch.manual_seed(recipe.seed)
    vlm = VLM(config)
    smooth_positions(vlm)
    if features is not None:
        scale_projector(vlm, features)
    # The head is made last, so that it takes no random number from what the models share.
    task = VisionLanguageTask(vlm, recipe.objective)
    if llm is not None:
        task.vlm.llm.load_state_dict(llm.state_dict())
    return task


def asked_of_scene(phase: Phase, number: int, epoch: int) -> list[SceneTurn]:
    """What an epoch of a phase asks about a training scene of the tabletop."""
    scene = make_scene("train", number)
    if phase.captions:
        return [caption_turn(scene)]
    return questions(scene, stream("train", number, FIRST_QUESTIONS + epoch))


def train_joint(
    batches: SceneBatches,
    task: VisionLanguageTask,
    folder: Path,
    *,
    data: Mapping[str, Any],
    ask: Callable[[int], Mapping[str, Mapping[str, float]]],
    score_every: int,
    progress: bool = True,
) -> float:
    """Train a task in place; now and then its answers about validation images are scored (`read_scores`).

    A run that resumes asks first what it was stopped from asking at its checkpoint, so no line of the scores is lost.

    Args:
        batches: what it is trained on, and by which recipe.
        task: from `new_task`.
        folder: for checkpoints, metrics and scores.
        data: what must be the same in a run that resumes here, besides the recipe.
        ask: step → the answers about validation images, as `answer_scores` gives them.
        score_every: steps between two times that they are asked, for the curve of answers against training time.
        progress: whether to show a bar.

    Returns:
        Minutes.

    Raises:
        TrainingError: there is no checkpoint when they are to be asked; as `Run.train`.
    """
    recipe, settings = batches.recipe, batches.recipe.settings()
    if score_every % settings.save_every:
        raise TrainingError(
            f"score_every must be a multiple of save_every ({settings.save_every}); got {score_every}."
        )

    def score(step: int, minutes: float) -> None:
        if step % score_every == 0 or step == settings.steps:
            add_scores(folder, step, minutes, ask(step))

    identity = {**recipe.identity(), **data}
    run = Run(task, settings, folder, title=recipe.model, identity=identity, tensorboard=True)
    if run.first and run.first not in [each["step"] for each in read_scores(folder)]:
        score(run.first, run.minutes)
    return take_steps(run, batches.share_of, progress=progress, on_checkpoint=score)
