"""The recipe of the pair that knows photographs, and its tokenizer."""

from collections.abc import Callable
from dataclasses import dataclass

from emma_viz.data.photos import photo_corpus
from emma_viz.data.prompts import build_prompt
from emma_viz.data.tabletop import DESCRIBE
from emma_viz.data.tokenizer import Tokenizer, train_tokenizer
from emma_viz.models.config import VLMConfig
from emma_viz.models.families.cobra import cobra_photo
from emma_viz.models.families.emma import emma_v1_photo
from emma_viz.session.options import LensRecipe
from training.pocket.recipes import SLOW_PROJECTOR
from training.pocket.tokenizer import PHRASES, VOCABULARY
from training.vision_language.lenses import TUNED_BUDGET
from training.vision_language.objective import Objective
from training.vision_language.recipe import Phase, Recipe

PHOTO_MEMBERS: dict[str, Callable[[], VLMConfig]] = {
    "cobra-photo": cobra_photo,
    "emma-v1-photo": emma_v1_photo,
}
"""The pair. Start, projector, data and their order are the same; only the losses differ, from the first step."""

_PHRASES = (*PHRASES, "In: What is in the image?\nOut: ")


@dataclass(frozen=True, kw_only=True)
class PhotoRecipe:
    """Everything that the members share."""

    joint: Recipe
    """Settings of the joint stage; `Recipe.of_member` has those of a member."""
    scenes: int = 4000
    """Training scenes, beside all training photographs."""
    score_every: int = 500
    """Steps between two times that held-out questions are asked; a multiple of joint.save_every."""
    scored_scenes: int = 100
    """Validation scenes and, as many, validation photographs that those questions are about."""
    tuned: LensRecipe = TUNED_BUDGET
    """The budget of the tuned lenses."""
    lens_pictures: int = 400
    """Training pictures that ridge lenses are fitted on."""
    lens_heldout: int = 150
    """Validation pictures on which the quality of every lens is measured."""


def photo_recipe() -> PhotoRecipe:
    """Averaged tokens first, four times fewer, then all of them; about an hour of one core."""
    return PhotoRecipe(
        joint=Recipe(
            model="cobra-photo",
            phases=(Phase(steps=3800, batch=8, pooled=True), Phase(steps=1200, batch=4)),
            objective=Objective(weight=0.1),
            lr=1.5e-3,
            save_every=100,
            slower=SLOW_PROJECTOR,
        )
    )


def photo_tokenizer() -> Tokenizer:
    """Train the tokenizer on every sentence form of the photo world."""
    lines = [build_prompt(DESCRIBE, style) for style in ("in-out", "zephyr")] * 10
    for line in photo_corpus():
        lines += [line, build_prompt(line, "in-out")] if line.endswith("?") else [line, line]
    return train_tokenizer(lines, vocab_size=VOCABULARY - len(_PHRASES), phrases=_PHRASES)
