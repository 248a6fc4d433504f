"""The lenses that ship with a member: ridge and tuned, fitted on what it was trained on, and its own decoder."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from emma_viz.checkpoints import LoadedModel
from emma_viz.data.images import image_hash, read_image
from emma_viz.data.tabletop import DESCRIBE
from emma_viz.files.atomic import copy_file
from emma_viz.heads.head import Head
from emma_viz.lens.evaluation import with_quality
from emma_viz.lens.files import save_lens
from emma_viz.lens.fitting.fit import RidgeSettings, with_fit_images
from emma_viz.lens.headers import read_info
from emma_viz.lens.native import NativeLens, native_lens
from emma_viz.lens.protocol import Lens
from emma_viz.maps.decoding import Decoding
from emma_viz.records.questions import Question
from emma_viz.session.fitting import HALF, fit_ridge
from emma_viz.session.options import Asking, LensRecipe
from emma_viz.session.road import ask
from training.loop.config import as_record
from training.loop.lens import LensImages, fit_file, round_to_half

TUNED_BUDGET = LensRecipe(
    kind="tuned",
    fit=2000,
    batch_size=4,
    layers_per_step=2,
    steps=1000,
    lr=2e-3,
    rank=16,
    decoder_layers=1,
    half=True,
)
"""What the tuned lens of every member that ships is trained with."""


@dataclass(frozen=True, kw_only=True)
class LensPlan:
    """What the lenses of a family's members are fitted and measured on; the same for each of them."""

    fit: Sequence[Any]
    """Training images for the ridge."""
    held_out: Sequence[Any]
    """Others, on which every lens is measured."""
    trained_on: Sequence[Any]
    """All images that the members were trained on, their own decoders with them."""
    said: str
    """What `trained_on` are, in words."""
    tuned: LensRecipe
    """The budget of the tuned lens."""
    tuned_images: LensImages
    """What it is fitted on."""


def write_lenses(
    model: LoadedModel, head: Head | None, folder: Path, plan: LensPlan, *, kept: Path, name: str
) -> None:
    """Fit a member's ridge and tuned lens and take over its own decoder; all with their quality on held-out images.

    Args:
        model: the member as it is bundled.
        head: its own decoder, if it has one.
        folder: where the lenses go.
        plan: what they are fitted on.
        kept: a folder in which a tuned lens of this budget is kept: it is fitted when none for this model is there.
        name: of the member there.
    """
    with tqdm(total=len(plan.fit) + len(plan.held_out), desc=f"ridge lens of {model.name}") as bar:
        ridge = fit_ridge(
            model,
            plan.fit,
            heldout=plan.held_out,
            fitted_on=plan.said,
            prompt=DESCRIBE,
            settings=RidgeSettings(store=HALF),
            on_batch=bar.update,
        )
    save_lens(ridge, folder / "ridge.lens")
    if head is not None:
        native = native_lens(
            head,
            model.info,
            patch=model.config.vision.patch,
            fitted_on=f"{plan.said}, with the model",
            n_fit=len(plan.trained_on),
        )
        native = with_fit_images(native, [image_hash(read_image(each)) for each in plan.trained_on])
        save_lens(_rounded(model, native, plan.held_out), folder / "native.lens")
    budget = hashlib.sha256(json.dumps(as_record(plan.tuned), sort_keys=True).encode()).hexdigest()[:8]
    path = kept / f"{name}.{budget}.tuned.lens"
    if not path.exists() or read_info(path).model_fingerprint != model.info.fingerprint:
        fit_file(model, plan.tuned, plan.tuned_images, path)
    copy_file(path, folder / "tuned.lens")


def _rounded(model: LoadedModel, lens: NativeLens, held_out: Sequence[Any]) -> NativeLens:
    """A lens in half precision, with the quality that it has as rounded."""
    round_to_half(lens.head)
    measured = with_quality(lens, decodings(model, lens, held_out))
    return replace(measured, head=lens.head.to(HALF))


def decodings(model: LoadedModel, lens: Lens, images: Sequence[Any]) -> Iterator[Decoding]:
    """Decode images at all layers of a lens, a few at a time."""
    read = [place for layer in lens.default_layers for place in lens.reads(layer)]
    sites, layers = sorted({site for site, _ in read}), sorted({layer for _, layer in read})
    questions = [Question(image=image, prompt=DESCRIBE) for image in images]
    pairs = ask(
        model, questions, lens, asking=Asking(), sites=sites, layers=layers, generate=False, batch_size=16
    )
    return (decoding for _, decoding in pairs if decoding is not None)
