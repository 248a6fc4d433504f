"""Lenses of frozen models, fitted on images that take the road."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from emma_viz.capture.record import RecordableModel
from emma_viz.capture.sites import site_layers
from emma_viz.checkpoints import LoadedModel
from emma_viz.data import read_image
from emma_viz.errors import LensError
from emma_viz.evidence.shuffled_weights import shuffled_weights
from emma_viz.lens.controls import FEWEST_UNTRAINED, against_untrained
from emma_viz.lens.fitting.fit import (
    RidgeSettings,
    fit_ridge_on_states,
    join_layers,
    require_separate,
    with_fit_images,
)
from emma_viz.lens.fitting.states import StateBatch, read_trace_states
from emma_viz.lens.fitting.tuned_fit import OnStep, Trainer, fit_tuned_on_states
from emma_viz.lens.fitting.tuned_settings import TunedSettings
from emma_viz.lens.ridge import RidgeLens
from emma_viz.lens.tuned import TunedConfig, TunedLens
from emma_viz.records.questions import Question
from emma_viz.session.options import Asking, LensRecipe
from emma_viz.session.road import ask
from emma_viz.shapes import EMBEDDING

HALF = torch.float16
_PROMPT = "Describe the image."
"""Any would do: image tokens come before it, and the models are causal."""


class AskedStates:
    """A `emma_viz.lens.StateSource` that runs the frozen model each time: nothing is stored.

    Args:
        model: the model.
        images: paths, PIL images or arrays.
        site: hook site.
        prompt: any; image tokens come before it.
    """

    def __init__(
        self,
        model: RecordableModel,
        images: Sequence[Any],
        *,
        site: str = LensRecipe.site,
        prompt: str = _PROMPT,
    ):
        self.model, self.site = model, site
        self.questions = tuple(Question(image=image, prompt=prompt) for image in images)

    def __len__(self) -> int:
        return len(self.questions)

    def batches(self, size: int) -> Iterator[list[int]]:
        """The numbers of all images, in order, but for those whose grids have one shape being together."""
        alike: dict[tuple[int, int] | None, list[int]] = {}
        for number, question in enumerate(self.questions):
            grid = self.model.info.grid or self.model.transform.geometry(read_image(question.image)).grid
            alike.setdefault(grid, []).append(number)
        for numbers in alike.values():
            yield from (numbers[start : start + size] for start in range(0, len(numbers), size))

    def read(self, samples: Sequence[int], layers: Sequence[int]) -> StateBatch:
        """Show the model some of the images.

        Args:
            samples: their numbers.
            layers: blocks, -1 for the embedding.

        Returns:
            States of the image tokens, layers in the order given, and the true patches of the same images.

        Raises:
            ImageError: an image cannot be read.
            SiteError: the site or a layer does not exist.
        """
        ((trace, _),) = ask(
            self.model,
            [self.questions[sample] for sample in samples],
            asking=Asking(),
            sites=(self.site,),
            layers=tuple(sorted(layers)),
            generate=False,
            batch_size=len(samples),
        )
        return read_trace_states(trace, self.site, layers)


def fit_ridge(
    model: RecordableModel,
    images: Sequence[Any],
    *,
    heldout: Sequence[Any],
    fitted_on: str,
    site: str = LensRecipe.site,
    layers: Sequence[int] | None = None,
    prompt: str = _PROMPT,
    batch_size: int = LensRecipe.batch_size,
    layers_per_pass: int | None = None,
    settings: RidgeSettings = RidgeSettings(),
    on_batch: Callable[[int], None] | None = None,
) -> RidgeLens:
    """Fit a ridge lens for a model: record its image tokens on images, all layers in one pass.

    Image tokens come before the text and the model is causal, so the prompt does not reach them.

    Args:
        model: the model.
        images: to fit on: paths, PIL images or arrays.
        heldout: other images, to measure the quality on.
        fitted_on: the images, in words, for the pictures.
        site: hook site.
        layers: blocks, -1 for the embedding; all (with the embedding where the site has it) when None.
        prompt: what is asked; image tokens come before it.
        batch_size: images recorded at once.
        layers_per_pass: fit only so many layers at a time, going over the images again for each part: bounds
            the memory of the sums (see `RidgeStatistics`). None: all in one pass.
        settings: λ and number types.
        on_batch: called with the number of images of each batch that is done (for a progress bar).

    Returns:
        The lens, with its held-out quality per layer.

    Raises:
        LensError: no images, or an image is in both parts.
        ImageError: an image cannot be read.
        SiteError: the site or a layer does not exist.
    """
    fitted = require_separate(images, heldout)
    asked = range(EMBEDDING, model.info.n_layer) if layers is None else sorted(layers)
    chosen = site_layers(site, tuple(asked), model.info.n_layer, model.info.mixer_layers)
    step = layers_per_pass or len(chosen)
    states, others = (AskedStates(model, some, site=site, prompt=prompt) for some in (images, heldout))
    parts = [
        fit_ridge_on_states(
            _batches(states, part, batch_size, on_batch),
            _batches(others, part, batch_size, on_batch),
            model=model.info,
            site=site,
            layers=part,
            fitted_on=fitted_on,
            images=fitted,
            settings=settings,
        )
        for part in (chosen[start : start + step] for start in range(0, len(chosen), step))
    ]
    return join_layers(parts)


def _batches(
    source: AskedStates, layers: Sequence[int], size: int, done: Callable[[int], None] | None
) -> Iterator[StateBatch]:
    """All images of a source, `size` at a time at most; `done` is told of each batch once it was used."""
    for some in source.batches(size):
        yield source.read(some, layers)
        if done is not None:
            done(len(some))


def fit_tuned(
    model: RecordableModel,
    images: Sequence[Any],
    *,
    heldout: Sequence[Any],
    fitted_on: str,
    site: str = LensRecipe.site,
    layers: Sequence[int] | None = None,
    prompt: str = _PROMPT,
    config: TunedConfig | None = None,
    settings: TunedSettings = TunedSettings(),
    device: str | torch.device = "cpu",
    on_step: OnStep | None = None,
    trainer: Trainer | None = None,
) -> TunedLens:
    """Train a tuned lens for a frozen model, recording the states of each step's images as it goes.

    Image tokens come before the text and the model is causal, so the prompt does not reach them.

    Args:
        model: the model.
        images: to train on: paths, PIL images or arrays.
        heldout: other images, to measure the quality on.
        fitted_on: the images, in words, for the pictures.
        site: hook site.
        layers: blocks, -1 for the embedding; all (with the embedding where the site has it) when None.
        prompt: what is asked; image tokens come before it.
        config: sizes of the lens; `tuned_config` at the model's width, with translators of full rank, when None.
        settings: the budget: give every model that is compared the same.
        device: where the lens is trained.
        on_step: called after each step.
        trainer: in place of `train_tuned`, which then is not told of `on_step`.

    Returns:
        The lens, with its held-out quality per layer.

    Raises:
        LensError: no images, an image is in both parts, or the training diverged.
        ImageError: an image cannot be read.
        SiteError: the site or a layer does not exist.
    """
    fitted = require_separate(images, heldout)
    asked = range(EMBEDDING, model.info.n_layer) if layers is None else sorted(layers)
    chosen = site_layers(site, tuple(asked), model.info.n_layer, model.info.mixer_layers)
    lens = fit_tuned_on_states(
        AskedStates(model, images, site=site, prompt=prompt),
        AskedStates(model, heldout, site=site, prompt=prompt),
        model=model.info,
        site=site,
        layers=chosen,
        fitted_on=fitted_on,
        config=config,
        settings=settings,
        device=device,
        on_step=on_step,
        trainer=trainer,
    )
    return with_fit_images(lens, fitted)


def require_untrained(count: int) -> None:
    """Refuse fewer untrained models than a spread can be told from.

    Raises:
        LensError: there are some, and too few.
    """
    if count and count < FEWEST_UNTRAINED:
        raise LensError(
            f"expected no untrained models or at least {FEWEST_UNTRAINED} (--untrained), got {count}."
        )


def fit_lens(
    model: LoadedModel,
    recipe: LensRecipe,
    fit: Sequence[Any],
    held_out: Sequence[Any],
    *,
    fitted_on: str,
    untrained: int = 0,
    keep: Callable[[RidgeLens], object] = lambda lens: None,
    progress: Callable[[int], None] = lambda count: None,
) -> RidgeLens:
    """Fit a ridge lens as a recipe says.

    An untrained model that no lens can be fitted on, such as one whose states are not finite, is left out, and the lens
    has a note of it.

    Args:
        model: the frozen model.
        recipe: of the kind `ridge`; the images of it are not chosen here.
        fit: images to fit on.
        held_out: others, to measure on.
        fitted_on: what the first are, in words.
        untrained: models with the numbers of each weight in a random order that the same lens is fitted on, as a
            control; each takes as long as the lens. None, or `FEWEST_UNTRAINED` at least.
        keep: called with the lens once it is fitted, before its untrained controls are.
        progress: called with the number of images of each batch that is done.

    Raises:
        LensError: the lens cannot be fitted, or so few untrained models are asked for.
    """
    require_untrained(untrained)

    def fitted() -> RidgeLens:
        return fit_ridge(
            model,
            fit,
            heldout=held_out,
            fitted_on=fitted_on,
            site=recipe.site,
            layers=recipe.layers,
            batch_size=recipe.batch_size,
            layers_per_pass=recipe.layers_per_pass,
            settings=RidgeSettings(store=HALF) if recipe.half else RidgeSettings(),
            on_batch=progress,
        )

    lens = fitted()
    if not untrained:
        return lens
    keep(lens)
    drawn, notes = [], []
    for seed in range(untrained):
        try:
            with shuffled_weights([model.network], seed=seed):
                drawn.append(_finite(fitted()).info.quality)
        except LensError as error:
            notes.append(f"untrained model {seed + 1} of {untrained} is left out of the control: {error}")
    if len(drawn) < FEWEST_UNTRAINED:
        notes.append(f"no untrained control: {len(drawn)} models are left, and {FEWEST_UNTRAINED} are needed")
        drawn = []
    controls = [
        against_untrained(own.layer, own.r2, [each.r2 for each in others])
        for own, *others in zip(lens.info.quality, *drawn, strict=True)
        if others
    ]
    info = replace(lens.info, controls=(*lens.info.controls, *controls), notes=(*lens.info.notes, *notes))
    return replace(lens, info=info)


def _finite(lens: RidgeLens) -> RidgeLens:
    """A lens of an untrained model, whose quality is a number at every layer.

    Raises:
        LensError: it is none somewhere.
    """
    if odd := [each.layer for each in lens.info.quality if not math.isfinite(each.r2)]:
        raise LensError(f"The R² of layer {odd[0]} is not finite.")
    return lens
