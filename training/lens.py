"""From a run directory to a lens file: one command, with the quality on held-out images of every layer."""

import hashlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from emma_viz.capture.sites import site_layers
from emma_viz.checkpoints import LoadedModel
from emma_viz.errors import LensError, TrainingError
from emma_viz.lens.files import save_lens
from emma_viz.lens.ridge import RidgeLens
from emma_viz.lens.states import StateSource
from emma_viz.lens.tuned import TunedHead, TunedLens, tuned_config
from emma_viz.lens.tuned_fit import Trainer, TunedSettings, calibrate, fit_tuned, loss_of_step
from emma_viz.models.config import VLMConfig
from emma_viz.session.fitting import HALF, choose_images, fit_lens, passes
from emma_viz.session.options import LensRecipe
from emma_viz.shapes import EMBEDDING
from training.loop.config import Optimisation, as_record
from training.loop.run import Run
from training.pocket.scenes import drawn_scenes
from training.vision_language.feature_cache import encoder_key

logger = logging.getLogger(__name__)

_SAVE_EVERY = 100
"""Steps between two checkpoints of a tuned lens."""
TABLETOP = "tabletop"
"""Name of the data set of drawn scenes."""
SCENES = "tabletop scenes (train)"
"""What lenses that were fitted on them say."""


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


def run_of(out: Path) -> Path:
    """The folder in which the checkpoints of a tuned lens are until its file is written."""
    return out.with_name(f"{out.name}.run")


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
        TrainingError: there are too few images that can be used, or the training diverged.
        LensError: the lens cannot be fitted or written.
    """
    fit, held_out, names, fitted_on = _shown(data, images, recipe)
    common: dict[str, Any] = {
        "heldout": held_out,
        "fitted_on": fitted_on,
        "site": recipe.site,
        "layers": recipe.layers,
    }
    title = f"{recipe.kind} lens of {model.name}"
    if recipe.kind == "tuned":
        run = run_of(out)
        kept = {name: value for name, value in as_record(recipe).items() if name != "broken_limit"}
        identity = {
            "model": model.info.fingerprint,
            "encoders": encoder_key(model.vlm),
            "type": model.info.dtype,
            "recipe": kept,
            "images": hashlib.sha256("\n".join(names).encode()).hexdigest()[:16],
        }
        trainer = _resumable(run, title=title, identity=identity, progress=progress)
        if recipe.half:
            trainer = then_rounded(trainer)
        lens = fit_tuned(model, fit, trainer=trainer, **_tuned(model, recipe), **common)
        if recipe.half:
            lens.head.to(HALF)
        save_lens(lens, out)
        shutil.rmtree(run)
        return lens
    with tqdm(
        total=(len(fit) + len(held_out)) * passes(recipe, model.config), desc=title, disable=not progress
    ) as bar:
        lens = fit_lens(
            model, recipe, fit, held_out, fitted_on=fitted_on, progress=lambda count: bar.update(count)
        )
    save_lens(lens, out)
    return lens


def round_to_half(head: nn.Module) -> None:
    """Give a head's numbers in place the values that they will have in half precision; its type stays.

    Raises:
        LensError: a number is too large for half precision.
    """
    state = head.state_dict()
    rounded = {name: each.to(HALF).to(each.dtype) for name, each in state.items()}
    if bad := [name for name, each in rounded.items() if not torch.isfinite(each).all()]:
        raise LensError(
            f"Half precision holds numbers up to {torch.finfo(HALF).max:.0f}; {', '.join(bad)} of this lens have "
            "larger ones. Keep it in single precision (leave --half out)."
        )
    head.load_state_dict(rounded)


def then_rounded(trainer: Trainer) -> Trainer:
    """A trainer that ends with `round_to_half`, so that what is measured afterwards is what is kept."""

    def train(head: TunedHead, source: StateSource, layers: Sequence[int], settings: TunedSettings) -> None:
        trainer(head, source, layers, settings)
        round_to_half(head)

    return train


def _shown(
    data: Path, images: Path | None, recipe: LensRecipe
) -> tuple[Sequence[Any], Sequence[Any], list[str], str]:
    """Images to fit on, images to measure on, what tells the first from others, and what they are in words."""
    if str(data) == TABLETOP and not data.exists():
        fit = list(drawn_scenes("train", recipe.fit).images)
        names = [f"{TABLETOP} scene {number}" for number in range(len(fit))]
        return fit, list(drawn_scenes("test", recipe.held_out).images), names, SCENES
    chosen = choose_images(data, images, recipe)
    fit, held_out = list(chosen.fit.values()), list(chosen.held_out.values())
    return fit, held_out, list(chosen.fit), f"{data.name} ({recipe.fit} of its images)"


def _resumable(folder: Path, *, title: str, identity: Mapping[str, Any], progress: bool = True) -> Trainer:
    """A trainer for `fit_tuned` that does what `train_tuned` does, to the bit on the CPU, and resumes where it stopped.

    Args:
        folder: for checkpoints and metrics.
        title: shown on the progress bar and in messages.
        identity: what must be the same in a run that resumes there.
        progress: whether to show a bar.
    """

    def trainer(head: TunedHead, source: StateSource, layers: Sequence[int], settings: TunedSettings) -> None:
        optimisation = Optimisation(
            steps=settings.steps,
            batch=settings.batch,
            lr=settings.lr,
            warmup=settings.warmup,
            final=0.0,
            weight_decay=settings.weight_decay,
            clip=settings.clip,
            betas=(0.9, 0.999),
            seed=settings.seed,
            save_every=_SAVE_EVERY,
        )
        run = Run(head, optimisation, folder, title=title, identity=identity, tensorboard=True)
        if run.first == 0:
            calibrate(head, source, layers, settings)

        def part(step: int):
            return loss_of_step(head, source, layers, settings, step), {}

        run.train(lambda step: [lambda: part(step)], progress=progress)

    return trainer


def _tuned(model: LoadedModel, recipe: LensRecipe) -> dict:
    """The arguments of `fit_tuned` that come from the recipe."""
    settings = TunedSettings(
        steps=recipe.steps,
        batch=min(recipe.batch_size, recipe.fit),
        layers_per_step=recipe.layers_per_step,
        lr=recipe.lr,
        seed=recipe.seed,
    )
    config = None
    if recipe.rank is not None or recipe.decoder_layers is not None:
        asked = range(EMBEDDING, model.info.n_layer) if recipe.layers is None else recipe.layers
        config = tuned_config(
            width=model.info.d_model,
            patch=model.config.vision.patch,
            n_layers=len(site_layers(recipe.site, tuple(asked), model.info.n_layer)),
            rank=recipe.rank,
            decoder_layers=recipe.decoder_layers,
        )
    return {"settings": settings, "config": config, "device": model.vlm.device}


def _require_one_form(data: Path, images: Path | None) -> None:
    if data.is_dir() and images is not None:
        raise TrainingError(f"{data} is a folder of images already; leave the second folder (--images) out.")
    if not data.is_dir() and images is None:
        raise TrainingError(f"{data} is a data set; say where its images are (--images FOLDER).")
