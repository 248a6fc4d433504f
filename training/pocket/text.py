"""Pre-training of the language model on text alone: scenes described in words, and questions about them."""

import math
from pathlib import Path

import torch

from emma_viz.data.prompts import PromptStyle
from emma_viz.data.tabletop import described_questions, description, make_scene, stream
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.models.config import MambaConfig
from emma_viz.models.language_model import MambaLM
from emma_viz.models.mixers.mamba1 import Mamba1Mixer
from emma_viz.models.mixers.mamba2 import Mamba2Mixer
from emma_viz.records.llava import IGNORE
from training.loop.config import TextRecipe, as_record
from training.loop.run import train
from training.vision_language.batch import Forks, TextBatch, collate, make_forks, prompt_labels
from training.vision_language.forks import run_forks, run_prefix
from training.vision_language.losses import text_loss

FIRST_SCENE = 1_000_000
"""Text pre-training reads about scenes from here on, which no image stage draws."""

PURPOSE = 2
"""Purpose number of the random stream of a scene's description and questions."""

SLOWEST, FASTEST = 1e-2, 1e-1
"""Range of a small model's first step sizes, log-uniform."""
MEMORY = 16
"""How many times longer a small model's states remember at the start than mamba_ssm's do."""
CONTRAST = 2.5
"""How many times larger than PyTorch's default start the maps to B and C begin."""


@torch.no_grad()
def start_remembering(model: MambaLM) -> None:
    """Let the states of a fresh, small model hold a whole image from the first step.

    With mamba_ssm's start a state forgets after some tens of tokens, and what it gives is a hundredth of what passes it
    by, so a small model trained for minutes does not find out that there is something to look back at.
    """
    for module in model.modules():
        if isinstance(module, Mamba1Mixer):
            bias, maps = module.dt_proj.bias, module.x_proj.weight[module.config.rank :]
        elif isinstance(module, Mamba2Mixer):
            bias = module.dt_bias
            maps = module.in_proj.weight[2 * module.config.d_inner : -module.config.n_heads]
        else:
            continue
        module.A_log.sub_(math.log(MEMORY))
        steps = torch.exp(torch.empty_like(bias).uniform_(math.log(SLOWEST), math.log(FASTEST)))
        bias.copy_(steps + torch.log(-torch.expm1(-steps)))
        maps.mul_(CONTRAST)


def train_text(
    recipe: TextRecipe, llm: MambaConfig, tokenizer: Tokenizer, style: PromptStyle, folder: Path
) -> tuple[MambaLM, float]:
    """Pre-train a language model from nothing.

    Its text is a scene's description, then one of the questions that it answers; the questions of a scene share the
    description's states.

    Returns:
        The model, and the minutes it took.
    """
    settings = recipe.optimisation
    torch.manual_seed(settings.seed)
    model = MambaLM(llm)
    start_remembering(model)

    def loss_of_step(step: int):
        described, turns = [], []
        for place in range(settings.batch):
            scene = make_scene("train", FIRST_SCENE + step * settings.batch + place)
            rng = stream("train", scene.index, PURPOSE)
            ids = tokenizer.encode(description(scene, rng))
            described.append((ids, [False] * len(ids)))
            turns += [(place, turn) for turn in described_questions(scene, rng)]
        prefix = collate(described, tokenizer.pad_id)
        forks = make_forks(turns, tokenizer, style)
        return _loss(model, prefix, forks, recipe.prompt_weight)

    minutes = train(model, loss_of_step, settings, folder, title="text", identity=as_record(recipe))
    return model, minutes


def _loss(model: MambaLM, prefix: TextBatch, forks: tuple[Forks, ...], prompt_weight: float):
    """The loss on answers, plus a small one on everything else, which has to be written in English too."""
    hidden, states = run_prefix(model.backbone, model.embed(prefix.ids), prefix.lengths)
    parts = run_forks(model.backbone, states, forks)
    head = model.lm_head.weight

    def mean(some):
        """Of the labels in all parts together; the share of those that are right."""
        losses, right = zip(*(text_loss(states, head, labels) for states, labels in some), strict=True)
        count = sum(int((labels != IGNORE).sum()) for _, labels in some)
        return sum(losses) / count, float(sum(right)) / count

    answers, accuracy = mean([(after, text.labels) for after, text in parts])
    rest = [(hidden, prompt_labels(prefix)), *((after, prompt_labels(text)) for after, text in parts)]
    prompts, _ = mean(rest)
    n_tokens = sum(int(text.lengths.sum()) for text in (prefix, *(text for _, text in parts)))
    numbers = {"answers": answers.item(), "accuracy": accuracy, "tokens": float(n_tokens)}
    return answers + prompt_weight * prompts, numbers
