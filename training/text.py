"""Pre-training of the language model on text alone: questions, answers and captions, without any image."""

from pathlib import Path

import numpy as np
import torch

from emma_viz.data.prompts import PromptStyle
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.models.config import MambaConfig
from emma_viz.models.language_model import MambaLM
from training.config import TextRecipe
from training.conversations import collate, scene_conversations
from training.loop import train
from training.losses import text_loss

FIRST_SCENE = 1_000_000
"""Text pre-training reads about scenes from here on, which no image stage draws."""


def train_text(
    recipe: TextRecipe, llm: MambaConfig, tokenizer: Tokenizer, style: PromptStyle, folder: Path
) -> tuple[MambaLM, float]:
    """Pre-train a language model from nothing.

    Returns:
        The model, and the minutes it took.
    """
    settings = recipe.optimisation
    torch.manual_seed(settings.seed)
    model = MambaLM(llm)

    def loss_of_step(step: int):
        numbers = FIRST_SCENE + step * settings.batch + np.arange(settings.batch)
        samples = scene_conversations(numbers, 0, tokenizer, style)
        batch = collate(samples, tokenizer.pad_id, everything=True)
        hidden = model.backbone(model.embed(batch.ids))
        loss, accuracy = text_loss(hidden, model.lm_head.weight, batch.labels)
        return loss, {"accuracy": accuracy}

    minutes = train(model, loss_of_step, settings, folder, title="text")
    return model, minutes
