"""What goes into a model: images and their geometry, prompts, tokens, data sets."""

from emma_viz.data.geometry import STRATEGIES, Geometry
from emma_viz.data.images import ImageTransform, TowerNorm, image_hash, read_image
from emma_viz.data.prompts import (
    PROMPT_STYLES,
    PromptStyle,
    Turn,
    answer_ids,
    build_prompt,
    first_id,
    prompt_style,
    wrap_turn,
)
from emma_viz.data.tokenizer import Tokenizer, train_tokenizer

__all__ = [
    "PROMPT_STYLES",
    "STRATEGIES",
    "Geometry",
    "ImageTransform",
    "PromptStyle",
    "Tokenizer",
    "TowerNorm",
    "Turn",
    "answer_ids",
    "build_prompt",
    "first_id",
    "image_hash",
    "prompt_style",
    "read_image",
    "train_tokenizer",
    "wrap_turn",
]
