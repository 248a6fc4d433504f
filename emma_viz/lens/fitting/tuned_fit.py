"""Training a tuned lens on the states of a frozen model."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from emma_viz.data.provenance import ModelInfo
from emma_viz.errors import LensError
from emma_viz.heads.mixers import parameter_count
from emma_viz.lens.fitting.fit import measured, with_fit_images
from emma_viz.lens.fitting.states import StateSource, TraceStates, in_batches
from emma_viz.lens.fitting.tuned_settings import TunedSettings
from emma_viz.lens.tuned import TunedConfig, TunedHead, TunedLens, tuned_config, tuned_lens

OnStep = Callable[[int, float], None]
"""Called as on_step(step, loss) after each step (for a progress bar)."""

Trainer = Callable[[TunedHead, StateSource, Sequence[int], TunedSettings], None]
"""Calibrates and trains a fresh head in place, as `train_tuned` does."""


def new_head(
    config: TunedConfig, settings: TunedSettings, *, device: str | torch.device = "cpu"
) -> TunedHead:
    """A head at its start, the same for every model of one width and number of layers under one seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return TunedHead(config).to(device)


def parameter_groups(head: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices with weight decay, biases and other vectors without."""
    parameters = list(head.parameters())
    return [
        {"params": [each for each in parameters if each.ndim > 1], "weight_decay": weight_decay},
        {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0},
    ]


def new_optimiser(head: TunedHead, settings: TunedSettings) -> torch.optim.AdamW:
    """The optimiser of a fresh training."""
    return torch.optim.AdamW(parameter_groups(head, settings.weight_decay), lr=settings.lr)


def calibrate(head: TunedHead, source: StateSource, layers: Sequence[int], settings: TunedSettings) -> None:
    """Set the head's scales by the first of the training images; see `TunedHead.calibrate`."""
    first = range(min(settings.calibration, len(source)))
    parts = (first[start : start + settings.batch] for start in range(0, len(first), settings.batch))
    head.calibrate(source.read(part, layers)[0] for part in parts)


def loss_of_step(
    head: TunedHead, source: StateSource, layers: Sequence[int], settings: TunedSettings, step: int
) -> Float[Tensor, ""]:
    """What a step minimises: the images and layers are a function of the step's number alone."""
    device, rows = head.mean.device, settings.rows_of(step, len(layers))
    states, patches = source.read(settings.samples_of(step, len(source)), [layers[row] for row in rows])
    return head.loss(states.to(device), patches.to(device), rows)


def train_tuned(
    head: TunedHead,
    source: StateSource,
    layers: Sequence[int],
    settings: TunedSettings = TunedSettings(),
    *,
    optimiser: torch.optim.Optimizer | None = None,
    first: int = 0,
    on_step: OnStep | None = None,
) -> None:
    """Calibrate a fresh head and train it in place, or go on where a training was stopped.

    Args:
        head: from `new_head`, or as it was after `first` steps; the states go to its device.
        source: the training images.
        layers: the layers of the head's rows.
        settings: the budget.
        optimiser: from `new_optimiser`, or as it was after `first` steps; a fresh one when None.
        first: steps that were taken before.
        on_step: called after each step.

    Raises:
        LensError: the loss is no longer finite, or a state is not.
    """
    if first == 0:
        calibrate(head, source, layers, settings)
    head.train()
    optimiser = optimiser or new_optimiser(head, settings)
    for step in range(first, settings.steps):
        loss = loss_of_step(head, source, layers, settings, step)
        if not torch.isfinite(loss):
            raise LensError(
                f"The loss is {loss.item()} at step {step}: try a smaller lr than {settings.lr:g}, or look for "
                "states that are not finite."
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), settings.clip)
        for group in optimiser.param_groups:
            group["lr"] = settings.rate(step)
        optimiser.step()
        if on_step is not None:
            on_step(step, loss.item())


def fit_tuned_on_states(
    source: StateSource,
    heldout: StateSource,
    *,
    model: ModelInfo,
    site: str,
    layers: Sequence[int],
    fitted_on: str,
    config: TunedConfig | None = None,
    settings: TunedSettings = TunedSettings(),
    device: str | torch.device = "cpu",
    on_step: OnStep | None = None,
    trainer: Trainer | None = None,
) -> TunedLens:
    """Train on the states of some images and measure on those of others.

    Args:
        source: to train on (`TraceStates`, `emma_viz.session.fitting.AskedStates`, or anything that reads alike).
        heldout: to measure the quality on, no image of it in `source`.
        model: the frozen model.
        site: the hook site that the sources read.
        layers: the layers to decode, ascending.
        fitted_on: the images, in words, for the pictures.
        config: sizes of the lens; `tuned_config` at the width of the states, with translators of full rank,
            when None.
        settings: the budget: give every model that is compared the same.
        device: where the lens is trained.
        on_step: called after each step.
        trainer: in place of `train_tuned`, which then is not told of `on_step`.

    Returns:
        The lens on the CPU, with its held-out quality per layer.

    Raises:
        LensError: there is nothing to train or measure on, or the training diverged.
    """
    if not len(source) or not len(heldout):
        raise LensError(
            f"A lens needs images to fit on and others to measure on; got {len(source)} and {len(heldout)}."
        )
    if config is None:
        states, patches = source.read([0], layers[:1])
        width, patch = states.shape[-1], patches.shape[2]
        config = tuned_config(width=width, patch=patch, n_layers=len(layers))
    head = new_head(config, settings, device=device)
    if trainer is None:
        train_tuned(head, source, layers, settings, on_step=on_step)
    else:
        trainer(head, source, layers, settings)
    lens = tuned_lens(
        head.cpu(),
        model,
        site=site,
        layers=layers,
        fitted_on=fitted_on,
        n_fit=len(source),
        notes=budget_notes(config, settings, head),
    )
    if isinstance(source, TraceStates):
        lens = with_fit_images(lens, source.image_hashes)
    return measured(lens, in_batches(heldout, layers, min(settings.batch, 8)))


def budget_notes(config: TunedConfig, settings: TunedSettings, head: TunedHead) -> tuple[str, ...]:
    """What a reader must know to compare two tuned lenses: the budget, the sizes, and that tokens are mixed."""
    rank = "full rank" if config.rank is None else f"rank {config.rank}"
    mixes = config.head.fusion.n_blocks or config.head.decoder.n_layers
    return (
        f"{settings.steps} steps of {settings.batch} images × {min(settings.layers_per_step, config.n_layers)} "
        f"layers, AdamW, lr {settings.lr:g}, seed {settings.seed}",
        f"translators of {rank}, {parameter_count(head.translators):,} parameters; one decoder for all layers, "
        f"{parameter_count(head.head):,} parameters",
        *(("the decoder mixes tokens: a patch may be painted from its neighbours' states",) if mixes else ()),
    )
