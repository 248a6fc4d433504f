"""Lenses of a frozen model: fitted, or trained in a run that can be interrupted, and written to a file."""

import hashlib
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from emma_viz.capture.sites import site_layers
from emma_viz.checkpoints import LoadedModel
from emma_viz.checkpoints.beside import encoder_key
from emma_viz.errors import LensError
from emma_viz.finite import is_finite
from emma_viz.lens.files import save_lens
from emma_viz.lens.fitting.states import StateSource
from emma_viz.lens.fitting.tuned_fit import Trainer, new_optimiser, train_tuned
from emma_viz.lens.fitting.tuned_settings import TunedSettings
from emma_viz.lens.ridge import RidgeLens
from emma_viz.lens.tuned import TunedHead, TunedLens, tuned_config
from emma_viz.session.fitting import HALF, fit_lens, fit_tuned, passes
from emma_viz.session.options import LensRecipe
from emma_viz.shapes import EMBEDDING
from training.loop.checkpoints import Checkpoints
from training.loop.config import as_record
from training.loop.distribution import LocalEngine
from training.loop.journal import Journal

_SAVE_EVERY = 100
"""Steps between two checkpoints of a tuned lens."""


@dataclass(frozen=True, kw_only=True)
class LensImages:
    """What a lens is fitted and measured on."""

    fit: Sequence[Any]
    """Images to fit on: paths, PIL images or arrays."""
    held_out: Sequence[Any]
    """Others, to measure on."""
    names: Sequence[str]
    """What tells the first from others: a run goes on with the same alone."""
    said: str
    """What they are, in words."""


def run_of(out: Path) -> Path:
    """The folder in which the checkpoints of a tuned lens are until its file is written."""
    return out.with_name(f"{out.name}.run")


def fit_file(
    model: LoadedModel, recipe: LensRecipe, shown: LensImages, out: Path, *, progress: bool = True
) -> RidgeLens | TunedLens:
    """Fit a lens and write it.

    Args:
        model: the frozen model.
        recipe: how.
        shown: the images.
        out: the lens file. Checkpoints of a tuned lens are beside it until it is written.
        progress: whether to show a bar.

    Returns:
        The lens, with its held-out quality per layer.

    Raises:
        TrainingError: checkpoints beside the file are of another training, or cannot be written.
        LensError: the training diverged, or the lens cannot be fitted or written.
    """
    title = f"{recipe.kind} lens of {model.name}"
    if recipe.kind == "tuned":
        return _train(model, recipe, shown, out, title=title, progress=progress)
    total = (len(shown.fit) + len(shown.held_out)) * passes(recipe, model.info)
    with tqdm(total=total, desc=title, disable=not progress) as bar:
        lens = fit_lens(
            model, recipe, shown.fit, shown.held_out, fitted_on=shown.said, progress=lambda n: bar.update(n)
        )
    save_lens(lens, out)
    return lens


def _train(
    model: LoadedModel, recipe: LensRecipe, shown: LensImages, out: Path, *, title: str, progress: bool
) -> TunedLens:
    run = run_of(out)
    kept = {name: value for name, value in as_record(recipe).items() if name != "broken_limit"}
    identity = {
        "model": model.info.fingerprint,
        "encoders": encoder_key(model.vlm),
        "type": model.info.dtype,
        "recipe": kept,
        "images": hashlib.sha256("\n".join(shown.names).encode()).hexdigest()[:16],
    }
    trainer = resumable(run, title=title, identity=identity, progress=progress)
    if recipe.half:
        trainer = then_rounded(trainer)
    lens = fit_tuned(
        model,
        shown.fit,
        heldout=shown.held_out,
        fitted_on=shown.said,
        site=recipe.site,
        layers=recipe.layers,
        trainer=trainer,
        **_tuned(model, recipe),
    )
    if recipe.half:
        lens.head.to(HALF)
    save_lens(lens, out)
    shutil.rmtree(run)
    return lens


def round_to_half(head: nn.Module) -> None:
    """Give a head's numbers in place the values that they will have in half precision; its type stays.

    Raises:
        LensError: a number is too large for half precision.
    """
    state = head.state_dict()
    rounded = {name: each.to(HALF).to(each.dtype) for name, each in state.items()}
    if bad := [name for name, each in rounded.items() if not is_finite(each)]:
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


def resumable(folder: Path, *, title: str, identity: Mapping[str, Any], progress: bool = True) -> Trainer:
    """`train_tuned` for `fit_tuned`, with checkpoints: it resumes where it stopped.

    Args:
        folder: for checkpoints and metrics.
        title: shown on the progress bar and in messages.
        identity: what must be the same in a run that resumes there.
        progress: whether to show a bar.
    """

    def trainer(head: TunedHead, source: StateSource, layers: Sequence[int], settings: TunedSettings) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        optimiser, began = new_optimiser(head, settings), time.monotonic()
        checkpoints = Checkpoints(folder, LocalEngine(), {**as_record(settings), **identity})
        first, before = checkpoints.resume(head, optimiser, steps=settings.steps)

        def done(step: int, loss: float) -> None:
            journal.add(step, {"loss": loss})
            bar.update()
            if (step + 1) % _SAVE_EVERY == 0 or step + 1 == settings.steps:
                journal.flush()
                minutes = before + (time.monotonic() - began) / 60
                checkpoints.save(head, optimiser, step + 1, minutes)

        shown = tqdm(initial=first, total=settings.steps, desc=title, disable=not progress)
        with closing(Journal(folder, first, tensorboard=True)) as journal, shown as bar:
            train_tuned(head, source, layers, settings, optimiser=optimiser, first=first, on_step=done)

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
            patch=model.config.patch,
            n_layers=len(site_layers(recipe.site, tuple(asked), model.info.n_layer, model.info.mixer_layers)),
            rank=recipe.rank,
            decoder_layers=recipe.decoder_layers,
        )
    return {"settings": settings, "config": config, "device": model.vlm.device}
