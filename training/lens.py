"""From a run directory to a lens file: one command, with the quality on held-out images of every layer."""

from pathlib import Path

from emma_viz.capture.sites import site_layers
from emma_viz.checkpoints import LoadedModel
from emma_viz.errors import TrainingError
from emma_viz.lens.ridge import RidgeLens
from emma_viz.lens.tuned import TunedLens
from emma_viz.models.config import VLMConfig
from emma_viz.session.fitting import choose_images
from emma_viz.session.options import LensRecipe
from training.loop.lens import LensImages, fit_file
from training.pocket.scenes import TABLETOP, scenes_for


def require_ready(recipe: LensRecipe, config: VLMConfig, data: Path, images: Path | None) -> None:
    """Refuse what would be refused later, before the model is loaded.

    Args:
        recipe: how the lens is fitted.
        config: the model.
        data: as for `make_lens`.
        images: as for `make_lens`.

    Raises:
        SiteError: the model has no such layer.
        TrainingError: the data is not there.
    """
    site_layers(recipe.site, "all" if recipe.layers is None else recipe.layers, config.llm.n_layer)
    if str(data) == TABLETOP and not data.exists():
        return
    if not data.exists():
        raise TrainingError(
            f"There is no {data}; name a LLaVA JSON, a folder of images, or {TABLETOP} (--data)."
        )
    if images is not None and not images.is_dir():
        raise TrainingError(f"There is no folder {images}; say where the images are (--images FOLDER).")
    _require_one_form(data, images)


def make_lens(
    model: LoadedModel,
    recipe: LensRecipe,
    data: Path,
    images: Path | None,
    out: Path,
    *,
    progress: bool = True,
) -> RidgeLens | TunedLens:
    """Fit a lens and write it.

    Args:
        model: the frozen model.
        recipe: how.
        data: a LLaVA JSON or JSONL file, a folder of images, or TABLETOP for the first training scenes, measured on
            the first test scenes.
        images: folder that the records' images are relative to; None for a folder of images or TABLETOP.
        out: the lens file. Checkpoints of a tuned lens are beside it until it is written.
        progress: whether to show a bar.

    Returns:
        The lens, with its held-out quality per layer.

    Raises:
        TrainingError: there are too few images that can be used.
        LensError: the training diverged, or the lens cannot be fitted or written.
    """
    shown = _shown(data, images, recipe)
    return fit_file(model, recipe, shown, out, progress=progress)


def _shown(data: Path, images: Path | None, recipe: LensRecipe) -> LensImages:
    if str(data) == TABLETOP and not data.exists():
        return scenes_for(recipe)
    chosen = choose_images(data, images, recipe)
    return LensImages(
        fit=list(chosen.fit.values()),
        held_out=list(chosen.held_out.values()),
        names=tuple(chosen.fit),
        said=f"{data.name} ({recipe.fit} of its images)",
    )


def _require_one_form(data: Path, images: Path | None) -> None:
    if data.is_dir() and images is not None:
        raise TrainingError(f"{data} is a folder of images already; leave the second folder (--images) out.")
    if not data.is_dir() and images is None:
        raise TrainingError(f"{data} is a data set; say where its images are (--images FOLDER).")
