"""The photo world: photographs, scenes of several of them with exact masks, and English questions about both."""

from emma_viz.data.photos.categories import CATEGORY_INDEX, PHOTO_CATEGORIES, Category
from emma_viz.data.photos.library import Photograph, PhotoLibrary
from emma_viz.data.photos.pictures import (
    PHOTO_SIDE,
    Drawn,
    PhotoScene,
    Placed,
    draw_photos,
    make_single,
    plan_scene,
)
from emma_viz.data.photos.questions import (
    Rivals,
    held_out_questions,
    named_categories,
    photo_corpus,
    photo_questions,
)

__all__ = [
    "CATEGORY_INDEX",
    "PHOTO_CATEGORIES",
    "PHOTO_SIDE",
    "Category",
    "Drawn",
    "PhotoLibrary",
    "PhotoScene",
    "Photograph",
    "Placed",
    "Rivals",
    "draw_photos",
    "held_out_questions",
    "make_single",
    "named_categories",
    "photo_corpus",
    "photo_questions",
    "plan_scene",
]
