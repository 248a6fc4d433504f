"""The lenses that a user named for several models: all are looked at before the first of them is fitted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from PIL import Image

from emma_viz.capture.sites import site_layers
from emma_viz.checkpoints import FoundModel, LoadedModel
from emma_viz.errors import LensError, LensMismatchError, MissingLensError
from emma_viz.lens import Lens
from emma_viz.lens.fitting.states import require_patches_of
from emma_viz.lens.info import LensInfo
from emma_viz.models.config import VLMConfig
from emma_viz.progress import Progress
from emma_viz.session.fitting.images import choose_images
from emma_viz.session.fitting.keeping import fit_and_keep, lens_place
from emma_viz.session.loading import free, lens_of, load
from emma_viz.session.options import LensRecipe, Running
from emma_viz.shapes import EMBEDDING

_ANY = Image.new("RGB", (448, 448))
"""A photograph of no special shape: how large a token's patch is depends on none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AwaitedLens:
    """A ridge lens that is to be fitted: it knows which states it will read, and decodes none yet."""

    info: LensInfo
    """What the lens will say of itself, its images and quality left out."""
    source: str | Path
    """What its model is named by."""
    place: Path
    """Where it will be kept."""

    @property
    def default_layers(self) -> tuple[int, ...]:
        """All layers of the site."""
        return self.info.layers

    def reads(self, layer: int) -> tuple[tuple[str, int], ...]:
        """The (site, layer) of the one state that it will need for `layer`."""
        return ((self.info.site, layer),)

    def decode(self, states: Any, layer: int) -> NoReturn:
        """Not yet: `fit_awaited` gives the lens that can."""
        raise AssertionError(f"the lens of {self.info.model_name} is not fitted yet")


def lenses_for(
    wanted: Sequence[str | Path | Lens],
    sources: Sequence[str | Path | LoadedModel],
    found: Sequence[tuple[VLMConfig | None, FoundModel | LoadedModel]],
    running: Running,
    *,
    fit_on: Any = None,
    force: bool = False,
) -> list[Lens | AwaitedLens]:
    """The lens that a user named for each model; where there is none and images are given, one that is to be fitted.

    Nothing is loaded, fitted or written.

    Args:
        wanted: kinds, files or lenses, one a model.
        sources: what the models are named by.
        found: the models (`require_loadable`).
        running: how they are loaded.
        fit_on: images for ridge lenses, as for `choose_images`; None: none is fitted.
        force: use lenses that belong to other models.

    Raises:
        MissingLensError: there is no lens, and none can be fitted: the command that fits one, and what it takes.
        LensMismatchError: the one that has the usual name belongs to other weights, and none can be fitted.
        LensError: a lens is damaged, or one that is to be fitted cannot be, or cannot be kept anywhere.
        InputError: a lens of others has the place of one that is to be fitted.
    """
    awaited: dict[tuple[str, str | None], AwaitedLens] = {}
    chosen: list[Lens | AwaitedLens] = []
    for one, source, (config, model) in zip(wanted, sources, found, strict=True):
        try:
            chosen.append(lens_of(one, model, force=force, running=running))
        except (MissingLensError, LensMismatchError) as error:
            if str(one) != "ridge" or isinstance(source, LoadedModel) or isinstance(model, LoadedModel):
                raise
            if fit_on is None:
                raise type(error)(f"{error} `--fit-on FOLDER` does it here and keeps the lens.") from error
            weights = (model.info.fingerprint, model.info.part)
            if weights not in awaited:
                require_patches_of(config, model.info.name)
                taken = [each.place for each in awaited.values()]
                place = lens_place(model, "ridge", taken=taken)
                awaited[weights] = AwaitedLens(info=_foreseen(model), source=source, place=place)
            chosen.append(awaited[weights])
    return chosen


def _foreseen(model: FoundModel) -> LensInfo:
    """What is known of a model's ridge lens before it is fitted."""
    if model.geometry is None or not model.info.takes_images:
        raise LensError(f"{model.info.name} takes no images: it has no grid of image tokens to decode.")
    layers = tuple(range(EMBEDDING, model.info.n_layer))
    return LensInfo(
        kind="ridge",
        model_name=model.info.name,
        model_fingerprint=model.info.fingerprint,
        site=LensRecipe.site,
        layers=site_layers(LensRecipe.site, layers, model.info.n_layer),
        patch=model.geometry(_ANY).patch,
        grid=model.info.grid,
        part=model.info.part,
        fitted_on="",
        n_fit=0,
        n_heldout=0,
    )


def fit_awaited(
    lenses: Sequence[Lens | AwaitedLens], running: Running, fit_on: Any, progress: Progress | None = None
) -> list[Lens]:
    """Fit those that are awaited, one after another, and keep them; the others stay as they are.

    Args:
        lenses: from `lenses_for`.
        running: how the models are loaded.
        fit_on: as it was given there; looked at before a model is loaded.
        progress: called as progress(done, total, what).

    Raises:
        TrainingError: there are too few images.
        LensError: a lens cannot be fitted or written.
    """
    awaited = list(dict.fromkeys(each for each in lenses if isinstance(each, AwaitedLens)))
    if not awaited:
        return [each for each in lenses if not isinstance(each, AwaitedLens)]
    recipe = LensRecipe()
    images = choose_images(fit_on, None, recipe, fewer=True)
    made: dict[AwaitedLens, Lens] = {}
    for each in awaited:
        model = load(each.source, running, progress)
        made[each] = fit_and_keep(model, recipe, fit_on, each.place, chosen=images, progress=progress)
        del model
        free(each.source)
    return [made[each] if isinstance(each, AwaitedLens) else each for each in lenses]
