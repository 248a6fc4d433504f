"""Joint training: text loss for Cobra; text and pixel loss, through fusion and pixel decoder, for EMMA."""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from emma_viz.data.tabletop import SceneTurn
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.errors import TrainingError
from emma_viz.files.atomic import write_file
from emma_viz.files.json_door import TABLE, parse_json, read_bytes
from emma_viz.files.schema import Count, shape
from emma_viz.heads.config import DecoderConfig, FusionConfig, MixerSize, PaperConfig, head_width
from emma_viz.heads.head import PaperHead
from emma_viz.heads.losses import paper_loss
from emma_viz.models.config import VLMConfig
from emma_viz.models.language_model import MambaLM
from emma_viz.models.vlm import VLM
from training.loop.config import JointRecipe, as_record
from training.loop.run import Run
from training.pocket.forks import Forks, forks_loss, make_forks, run_forks, run_prefix
from training.pocket.questions import answer_scores
from training.pocket.streams import SceneStream

SCORES = "scores.jsonl"
"""In a run's folder: a line each time that questions were asked."""

POOL = 2
"""Side of the squares of image tokens that are averaged in the pooled steps."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A line of SCORES."""

    step: Count
    minutes: float
    accuracy: dict[str, float]
    """Topic → share of right answers."""


@dataclass(frozen=True, kw_only=True)
class ImageBatch:
    """Images of a batch, as the model takes them and as the pixel loss wants them."""

    features: Float[Tensor, "B T F"]
    """The frozen encoder's output."""
    patches: Float[Tensor, "B T p p c"]
    """True pixels in [0, 1]."""


@contextmanager
def tapped(vlm: VLM) -> Generator[list[Tensor]]:
    """Collect, with gradients, the mixer outputs of the tap blocks, and the final state after the last norm."""
    found: list[Tensor] = []
    points = [vlm.llm.backbone.layers[tap].get_submodule("hook_mixer_out") for tap in vlm.config.taps]
    points.append(vlm.llm.backbone.get_submodule("hook_norm_f"))
    handles = [point.register_forward_hook(lambda _m, _i, out: found.append(out)) for point in points]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


class JointTask(nn.Module):
    """A VLM and, when it has taps, the head that decodes pixels from them."""

    def __init__(self, vlm: VLM, head: PaperHead | None, *, pixel_weight: float):
        super().__init__()
        self.vlm, self.head, self.pixel_weight = vlm, head, pixel_weight

    def forward(self, image: ImageBatch, forks: tuple[Forks, ...], *, pooled: bool):
        """The loss of a batch and the numbers worth watching."""
        tokens, patches = self.vlm.embed_image(features=image.features), image.patches
        if pooled:
            tokens, patches = pool_tokens(tokens, self.vlm.grid), pool_patches(patches, self.vlm.grid)
        backbone = self.vlm.llm.backbone
        with tapped(self.vlm) as taps:
            _, states = run_prefix(backbone, tokens)
        parts = run_forks(backbone, states, forks)
        answers = [(after, text.labels) for after, text in parts]
        loss, accuracy = forks_loss(answers, self.vlm.llm.lm_head.weight)
        n_tokens = tokens.shape[0] * tokens.shape[1] + sum(int(text.lengths.sum()) for _, text in parts)
        numbers = {"text": loss.item(), "accuracy": accuracy, "tokens": float(n_tokens)}
        if self.head is not None:
            pixels = paper_loss(self.head(taps), patches)
            loss = loss + self.pixel_weight * pixels
            numbers["pixels"] = pixels.item()
        return loss, numbers


def pocket_head(config: VLMConfig, *, fusion: bool = True) -> PaperConfig:
    """The paper's fusion (Eq. 7: one block fewer than taps; none for −MFF) and a decoder of two Mamba layers."""
    width, n_taps = config.llm.d_model, len(config.taps) + 1
    heads = head_width(width)
    mixer = MixerSize(ssm="mamba1", d_state=config.llm.d_state)
    n_blocks = n_taps - 1 if fusion else 0
    mff = FusionConfig(width=width, n_taps=n_taps, n_blocks=n_blocks, n_heads=width // heads, mixer=mixer)
    decoder = DecoderConfig(width=width, patch=config.vision.patch, n_layers=2, mixer=mixer)
    return PaperConfig(fusion=mff, decoder=decoder)


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


def pool_tokens(tokens: Float[Tensor, "B T D"], grid: tuple[int, int]) -> Float[Tensor, "B t D"]:
    """Average squares of POOL×POOL neighbouring tokens."""
    rows = grid[0] // POOL
    return reduce(tokens, "B (R a C b) D -> B (R C) D", "mean", R=rows, a=POOL, b=POOL)


def pool_patches(patches: Float[Tensor, "B T p p c"], grid: tuple[int, int]) -> Float[Tensor, "B t p p c"]:
    """The patches of the image shrunk by POOL."""
    p = patches.shape[2]
    image = rearrange(patches, "B (R C) p q c -> B (R p) (C q) c", R=grid[0])
    small = reduce(image, "B (h a) (w b) c -> B h w c", "mean", a=POOL, b=POOL)
    return rearrange(small, "B (R p) (C q) c -> B (R C) p q c", p=p, q=p)


def image_batch(images: np.ndarray, features: np.ndarray, numbers: np.ndarray, patch: int) -> ImageBatch:
    """Gather a batch from the arrays of all scenes."""
    pixels = torch.from_numpy(images[numbers]).float() / 255
    return ImageBatch(
        features=torch.from_numpy(features[numbers]).float(),
        patches=rearrange(pixels, "B (R p) (C q) c -> B (R C) p q c", p=patch, q=patch),
    )


def new_task(
    recipe: JointRecipe,
    config: VLMConfig,
    *,
    features: Float[Tensor, "B T F"] | None,
    llm: MambaLM | None = None,
    fusion: bool = True,
) -> JointTask:
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
    # Last, so that it takes no random number from what the models share.
    head = PaperHead(pocket_head(config, fusion=fusion)) if config.lens_form == "paper" else None
    task = JointTask(vlm, head, pixel_weight=recipe.pixel_weight)
    if llm is not None:
        task.vlm.llm.load_state_dict(llm.state_dict())
    return task


def phase_of(recipe: JointRecipe, step: int) -> tuple[int, int]:
    """The phase that a step belongs to, and its place in that phase."""
    ends = np.cumsum([phase.steps for phase in recipe.phases])
    number = int(np.searchsorted(ends, step, side="right"))
    return number, step - (int(ends[number - 1]) if number else 0)


def train_joint(
    recipe: JointRecipe,
    task: JointTask,
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
    config = task.vlm.config
    streams = [
        SceneStream(
            batch=phase.batch,
            scenes=len(features),
            seed=(recipe.optimisation.seed, number),
            captions=phase.captions,
        )
        for number, phase in enumerate(recipe.phases)
    ]

    def batch_of(number: int, place: int) -> tuple[ImageBatch, Sequence[tuple[int, SceneTurn]]]:
        numbers, turns = streams[number].batch_of(place)
        return image_batch(images, features, numbers, config.vision.patch), turns

    def ask(step: int) -> Mapping[str, Mapping[str, float]]:
        return answer_scores(task.vlm, held_out, tokenizer, split="val")

    return run_joint_task(recipe, task, tokenizer, folder, batch_of=batch_of, ask=ask, progress=progress)


def run_joint_task(
    recipe: JointRecipe,
    task: JointTask,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    batch_of: Callable[[int, int], tuple[ImageBatch, Sequence[tuple[int, SceneTurn]]]],
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
        batch_of: (phase, step of the phase) → images, and questions with their image's place in the batch; a function
            of its arguments alone.
        ask: step → the answers about validation images, as `answer_scores` gives them.
        identity: what must be the same in a run that resumes here, besides the recipe.
        progress: whether to show a bar.

    Returns:
        Minutes.
    """
    settings = replace(recipe.optimisation, slower=(("vlm.projector.", recipe.projector_rate),))

    def loss_of_step(step: int):
        number, place = phase_of(recipe, step)
        image, turns = batch_of(number, place)
        forks = make_forks(turns, tokenizer, task.vlm.config.prompt_style)
        return task(image, forks, pooled=recipe.phases[number].pooled)

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
