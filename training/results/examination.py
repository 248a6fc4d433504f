"""One model examined: every scene goes through it once, and what comes out is kept as sums per image."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from emma_viz.checkpoints import LoadedModel
from emma_viz.errors import TrainingError
from emma_viz.lens.files import load_lens
from emma_viz.lens.native import NativeLens
from emma_viz.lens.readout import Linear, LinearFit
from emma_viz.lens.ridge import RidgeLens
from emma_viz.lens.tuned import TunedLens
from emma_viz.metrics.sums import joined_columns, residual_columns, shown_columns
from emma_viz.models.vlm import VLM
from emma_viz.shapes import EMBEDDING
from training.results.measures import answer_columns, caption_columns, foreground, probe_columns
from training.results.shown import Pictures, Step, pictures, residual_stream, show
from training.results.worlds import World

UNSEEN_PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png")
"""Photographs of scikit-image that no stage of training has seen; its others are backgrounds of the tabletop world."""
ENCODER, OWN = "encoder", "own decoder"
"""Places beside the layers: the frozen encoder's tokens, and the pixels of a member's own decoder."""

OneLens = TypeVar("OneLens", RidgeLens, TunedLens, NativeLens)

PlaceColumns = dict[str, dict[str, np.ndarray]]
"""Place → columns."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """Everything that members with one encoder are shown."""

    world: World
    fit: Pictures
    """Training scenes: what lenses, probes and controls are fitted on."""
    test: Pictures
    """Held-out scenes."""
    photos: Pictures
    retention: int
    """So many of `test` are decoded."""
    encoder: dict[str, PlaceColumns]
    """The encoder's own columns, under "scenes" and "photos"."""


@dataclass(kw_only=True, eq=False)
class Examined:
    """What one member of one bundle gave."""

    fingerprint: str
    scenes: PlaceColumns
    """Place → columns over held-out scenes."""
    photos: PlaceColumns
    answers: dict[str, dict[str, np.ndarray]]
    """Topic → columns over all held-out scenes."""
    captions: dict[str, np.ndarray]
    """Columns over the decoded held-out scenes."""
    photo_captions: tuple[str, ...]
    tuned: PlaceColumns
    """R² sums of the tuned lens over held-out scenes, by layer."""
    shuffled: PlaceColumns
    """Control: ridge fitted to pixels that were shuffled between tokens."""
    untrained: PlaceColumns
    """Control: the member before training."""


def prepare_material(
    model: LoadedModel, world: World, *, scenes: int, retention: int, fit: int, step: Step
) -> Material:
    """Draw and encode all that is shown to members with this model's encoder, and measure the encoder itself.

    The encoder's ridge is fitted like the members' lenses: on the same training scenes, with the same λ.
    """
    drawn, held_out = world.views("train", fit), world.views("test", scenes)
    views = [
        np.asarray(model.transform.view(Image.open(str(files("skimage.data") / name)).convert("RGB")))
        for name in UNSEEN_PHOTOS
    ]
    train = pictures(model, drawn.images, drawn.kinds, step)
    test = pictures(model, held_out.images, held_out.kinds, step)
    photos = pictures(model, np.stack(views), None, step)
    pixels, probe = LinearFit(1), LinearFit(1)
    for part in train.batches():
        states = torch.from_numpy(train.features[part])
        front, kind = foreground(train.kinds[part], world.n_kinds)
        flat = torch.from_numpy(train.true(part)).flatten(0, 1).flatten(1)
        pixels.add(states.flatten(0, 1)[None], flat)
        probe.add(states[torch.from_numpy(front)][None], kind)
    lens, probes = pixels.result()[0], probe.result()[0]
    encoder: dict[str, PlaceColumns] = {}
    for name, shown, count in (("scenes", test, retention), ("photos", photos, None)):
        parts = []
        for part in shown.batches(count):
            states = torch.from_numpy(shown.features[part])
            decoded = lens.patches(states, model.config.vision.patch)
            parts.append(_columns(decoded, shown, part, model.vlm.grid, states, probes))
        encoder[name] = {ENCODER: joined_columns(parts)}
    return Material(world=world, fit=train, test=test, photos=photos, retention=retention, encoder=encoder)


def _columns(
    decoded: np.ndarray, shown: Pictures, part: slice, grid: tuple[int, int], states: Tensor | None, probe
) -> dict[str, np.ndarray]:
    true = shown.true(part)
    columns = residual_columns(decoded, true) | shown_columns(decoded, true, grid)
    if states is not None:
        columns |= probe_columns(probe, states, shown.kinds[part])
    return columns


def examine_member(model: LoadedModel, material: Material, step: Step, *, untrained: VLM) -> Examined:
    """Measure a member: its own lenses on held-out scenes and photographs, a probe, controls, and its answers.

    Args:
        model: with its lenses in its folder.
        material: made with the model's encoder.
        step: called with the number of images that went through, for a progress bar.
        untrained: the control model, with the same sizes.
    """
    ridge, tuned, native = lenses_of_member(model)
    probes, mixed = _fit(model, material, step)
    places = {EMBEDDING: mixed[0], model.info.n_layer - 1: mixed[1]}
    scenes, shuffled = _decode(model, material.test, material.retention, ridge, native, probes, places, step)
    photos, _ = _decode(model, material.photos, None, ridge, native, probes, {}, step)
    return Examined(
        fingerprint=model.info.fingerprint,
        scenes=material.encoder["scenes"] | scenes,
        photos=material.encoder["photos"] | photos,
        answers=_answers(model, material, step),
        captions=caption_columns(
            [
                material.world.named(each)
                for each in _captions(model, material.test, material.retention, step)
            ],
            [material.world.present(index) for index in range(material.retention)],
        ),
        photo_captions=tuple(_captions(model, material.photos, None, step)),
        tuned=_tuned(model, material, tuned, step),
        shuffled=shuffled,
        untrained=_untrained(as_control(model, untrained), material, step),
    )


def lenses_of_member(model: LoadedModel) -> tuple[RidgeLens, TunedLens, NativeLens | None]:
    """A member's own lenses; only one that was trained with a decoder of its own has a native lens.

    Raises:
        TrainingError: a file holds a lens of another kind.
    """
    ridge, tuned = _lens_of(model, RidgeLens, "ridge"), _lens_of(model, TunedLens, "tuned")
    return ridge, tuned, _lens_of(model, NativeLens, "native") if model.info.taps else None


def _lens_of(model: LoadedModel, kind: type[OneLens], name: str) -> OneLens:
    """One of a member's own lenses.

    Raises:
        TrainingError: its file holds a lens of another kind.
    """
    lens = load_lens(model, name)
    if not isinstance(lens, kind):
        raise TrainingError(
            f"{name}.lens of {model.name} holds a lens of the kind {lens.info.kind}; write the bundle again."
        )
    return lens


def as_control(model: LoadedModel, untrained: VLM) -> LoadedModel:
    """The control as a model that can be shown images: it sees through the member's own encoder, which no stage after
    it trains and `VLM(config)` starts at random.

    Args:
        model: the member.
        untrained: the member before training; its encoder is replaced.
    """
    untrained.vision = model.vlm.vision
    return replace(model, vlm=untrained)


def _fit(model: LoadedModel, material: Material, step: Step) -> tuple[list[Linear], list[Linear]]:
    """Class probes of all layers; and, of the first and last, ridges to pixels shuffled over all tokens."""
    fit, probe, mixed = material.fit, LinearFit(model.info.n_layer + 1), LinearFit(2)
    flat = fit.true()
    order = np.random.default_rng(0).permutation(flat.shape[0] * flat.shape[1]).reshape(flat.shape[:2])
    flat = flat.reshape(order.size, -1)
    for part in fit.batches():
        states = residual_stream(show(model, fit, part)[0])
        front, kind = foreground(fit.kinds[part], material.world.n_kinds)
        probe.add(states[:, torch.from_numpy(front)], kind)
        mixed.add(states[[0, -1]].flatten(1, 2), torch.from_numpy(flat[order[part].ravel()]))
        step(part.stop - part.start)
    return probe.result(), mixed.result()


def _decode(
    model: LoadedModel,
    shown: Pictures,
    count: int | None,
    ridge: RidgeLens,
    native: NativeLens | None,
    probes: Sequence[Linear],
    shuffled: dict[int, Linear],
    step: Step,
) -> tuple[PlaceColumns, PlaceColumns]:
    """Columns of every layer and of the own decoder, and of the ridges that were fitted to shuffled pixels."""
    parts: defaultdict[str, list] = defaultdict(list)
    mixed: defaultdict[str, list] = defaultdict(list)
    grid, patch = model.vlm.grid, model.config.vision.patch
    for part in shown.batches(count):
        trace, decoding = show(model, shown, part, native)
        states = residual_stream(trace)
        for layer, each in enumerate(states, start=EMBEDDING):
            decoded = ridge.decode(each, layer).numpy()
            probe = probes[layer - EMBEDDING]
            parts[str(layer)].append(_columns(decoded, shown, part, grid, each, probe))
            if layer in shuffled:
                decoded = shuffled[layer].patches(each, patch)
                mixed[str(layer)].append(residual_columns(decoded, shown.true(part)))
        if decoding is not None:
            parts[OWN].append(_columns(decoding.patches[-1], shown, part, grid, None, None))
        step(part.stop - part.start)
    kept, control = (
        {place: joined_columns(each) for place, each in found.items()} for found in (parts, mixed)
    )
    return kept, control


def _tuned(model: LoadedModel, material: Material, lens: TunedLens, step: Step) -> PlaceColumns:
    """R² sums of a tuned lens."""
    parts: defaultdict[str, list] = defaultdict(list)
    shown = material.test
    for part in shown.batches(material.retention):
        states = residual_stream(show(model, shown, part)[0])
        for layer, each in enumerate(states, start=EMBEDDING):
            decoded = lens.decode(each, layer).numpy()
            parts[str(layer)].append(residual_columns(decoded, shown.true(part)))
        step(part.stop - part.start)
    return {place: joined_columns(found) for place, found in parts.items()}


def _untrained(model: LoadedModel, material: Material, step: Step) -> PlaceColumns:
    """R² sums of a model that was not trained, with ridge lenses fitted on its own states of the training scenes."""
    layers = range(EMBEDDING, model.info.n_layer)
    fit, fitted = material.fit, LinearFit(len(layers))
    for part in fit.batches():
        states = residual_stream(show(model, fit, part)[0])
        fitted.add(states.flatten(1, 2), torch.from_numpy(fit.true(part)).flatten(0, 1).flatten(1))
        step(part.stop - part.start)
    lenses, shown = fitted.result(), material.test
    parts: defaultdict[str, list] = defaultdict(list)
    for part in shown.batches(material.retention):
        states = residual_stream(show(model, shown, part)[0])
        for layer, each, lens in zip(layers, states, lenses, strict=True):
            decoded = lens.patches(each, model.config.vision.patch)
            parts[str(layer)].append(residual_columns(decoded, shown.true(part)))
        step(part.stop - part.start)
    return {place: joined_columns(found) for place, found in parts.items()}


def _answers(model: LoadedModel, material: Material, step: Step) -> dict[str, dict[str, np.ndarray]]:
    test = material.test

    def told():
        reached = 0
        for each in material.world.asked(model, test.features):
            if each.scene > reached:
                step(each.scene - reached)
                reached = each.scene
            yield each
        step(len(test) - reached)

    return answer_columns(told(), len(test))


def _captions(model: LoadedModel, shown: Pictures, count: int | None, step: Step) -> list[str]:
    """Greedy answers to "Describe the image in detail."."""
    captions: list[str] = []
    for part in shown.batches(count):
        captions += show(model, shown, part, caption=True)[0].answers
        step(part.stop - part.start)
    return captions


def images_shown(material: Material) -> int:
    """How many times an image goes through one member, for the progress bar."""
    retention, photos = material.retention, len(material.photos)
    once = len(material.fit) + retention
    return 2 * once + len(material.test) + 2 * retention + 2 * photos
