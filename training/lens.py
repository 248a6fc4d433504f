"""What a lens of a run directory is fitted on, and whether it can be, looked at before the model is loaded."""

import glob
from pathlib import Path

from emma_viz.capture.sites import site_layers
from emma_viz.errors import TrainingError
from emma_viz.lens.fitting.states import require_patches_of
from emma_viz.models.config import VLMConfig
from emma_viz.records.questions import LISTS
from emma_viz.session.fitting import choose_images
from emma_viz.session.options import LensRecipe
from training.loop.lens import LensImages
from training.pocket.scenes import TABLETOP, scenes_for


def lens_images(recipe: LensRecipe, config: VLMConfig, data: Path, images: Path | None) -> LensImages:
    """The images of a lens, and refuses what would be refused later.

    Args:
        recipe: how the lens is fitted.
        config: the model.
        data: a list of records (.json, .jsonl), a folder of images, a pattern, or TABLETOP for the first training
            scenes, measured on the first test scenes.
        images: folder that the images of a list are relative to; None: that of the list.

    Raises:
        SiteError: the model has no such layer.
        LensError: its image tokens are pooled unevenly.
        TrainingError: the data is not there, or has too few images that can be used.
        InputError: it holds no image.
    """
    asked, llm = "all" if recipe.layers is None else recipe.layers, config.llm
    site_layers(recipe.site, asked, llm.n_layer, llm.mixer_layers)
    require_patches_of(config, config.model_id)
    if str(data) == TABLETOP and not data.exists():
        return scenes_for(recipe)
    _require_there(data, images)
    chosen = choose_images(data, images, recipe)
    return LensImages(
        fit=list(chosen.fit.values()),
        held_out=list(chosen.held_out.values()),
        names=tuple(chosen.fit),
        said=f"{data.name} ({recipe.fit} of its images)",
    )


def _require_there(data: Path, images: Path | None) -> None:
    if not data.exists() and not glob.has_magic(str(data)):
        raise TrainingError(
            f"There is no {data}; name a folder of images, a pattern, a list of records (.json, .jsonl), or {TABLETOP}."
        )
    if images is None:
        return
    if not images.is_dir():
        raise TrainingError(f"There is no folder {images}; name the one that the images of {data} are in.")
    if data.is_dir() or data.suffix.lower() not in LISTS:
        raise TrainingError(f"{data} names the images itself; leave the second folder, {images}, out.")
