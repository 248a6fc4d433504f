"""What a finished run leaves: a run directory that loads, and the trained decoder as its lens."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emma_viz.checkpoints import LoadedModel, inspect, load_model, save_run_directory
from emma_viz.checkpoints.loaded import image_transform, model_info
from emma_viz.data.images import image_hash, read_image
from emma_viz.data.tabletop import DESCRIBE
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.errors import CheckpointError, ImageError
from emma_viz.heads.head import Head, ReleasedHead, build_head
from emma_viz.lens.evaluation import with_quality
from emma_viz.lens.files import save_lens
from emma_viz.lens.fitting.fit import with_fit_images
from emma_viz.lens.native import NativeLens, native_lens
from emma_viz.lens.protocol import Lens
from emma_viz.maps.decoding import Decoding
from emma_viz.models.config import VLMConfig
from emma_viz.records.questions import Question
from emma_viz.session.fitting import HALF
from emma_viz.session.options import Asking
from emma_viz.session.road import ask
from training.loop.lens import round_to_half
from training.vision_language.objective import Objective, head_config

logger = logging.getLogger(__name__)

ENCODER_FILE = "encoder.safetensors"
"""File of encoders that are not the usual ones, beside the model; pass it as `vision_source`."""
CALIBRATION = 32
"""Training images whose patches give the released form's pictures their typical brightness."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Finished:
    """A trained model, before it is written.

    Attributes:
        config: of the model.
        objective: its losses.
        state: of the task: `vlm.*` and, with a pixel loss, `head.*`.
        dtype: of the weights on disk.
        images: what it was trained on, those that can be read, one after the other.
        said: the same in words.
        n_fit: how many they are.
        held_out: images that it was not trained on.
        provenance: for config.json.
        tokenizer: the model's, to lie beside it.
        sources: of encoders and tokenizer, as `load_model` takes them, where they have no usual place.
        small: keep the lens in half precision, and mark it with the images that it was trained on.
    """

    config: VLMConfig
    objective: Objective
    state: Mapping[str, Tensor]
    dtype: torch.dtype
    images: Callable[[], Iterable[Any]]
    said: str
    n_fit: int
    held_out: Sequence[Any]
    provenance: dict[str, Any]
    tokenizer: Tokenizer | None = None
    sources: Mapping[str, Any] = field(default_factory=dict)
    small: bool = False


def write_model(finished: Finished, folder: Path, *, device: torch.device) -> None:
    """Write the run directory, and `native.lens` with its quality on the held-out images.

    Nothing that is only measured may cost what was trained: the lens is written before it is measured, and images
    that cannot be read any more are named and left out.

    Args:
        finished: the model.
        folder: where it goes.
        device: where the lens is measured.

    Raises:
        CheckpointError: the run directory cannot be read back.
    """
    save_run_directory(
        folder,
        finished.config,
        _part(finished, "vlm."),
        dtype=finished.dtype,
        tokenizer=finished.tokenizer,
        provenance=finished.provenance,
    )
    head = _trained_head(finished)
    if head is None:
        return
    if not head.makes_pictures:
        logger.warning("the decoder was trained on features (AVF) and makes no pictures: no lens is written")
        return
    if finished.small:
        round_to_half(head)
    lens = _lens(finished, head, folder)
    _save(finished, lens, folder)
    if finished.held_out:
        _save(finished, _measured(finished, lens, folder, device), folder)


def decodings(model: LoadedModel, lens: Lens, images: Sequence[Any]) -> Iterator[Decoding]:
    """Decode images at all layers of a lens, a few at a time."""
    read = [place for layer in lens.default_layers for place in lens.reads(layer)]
    sites, layers = sorted({site for site, _ in read}), sorted({layer for _, layer in read})
    questions = [Question(image=image, prompt=DESCRIBE) for image in images]
    pairs = ask(
        model, questions, lens, asking=Asking(), sites=sites, layers=layers, generate=False, batch_size=16
    )
    return (decoding for _, decoding in pairs if decoding is not None)


def _save(finished: Finished, lens: NativeLens, folder: Path) -> None:
    head = lens.head.to("cpu", HALF if finished.small else torch.float32)
    save_lens(replace(lens, head=head), folder / "native.lens")


def _lens(finished: Finished, head: Head, folder: Path) -> NativeLens:
    """The trained head as the lens of the model in `folder`, not measured."""
    found = inspect(folder)
    if (mark := found.fingerprint) is None:
        listed = "; ".join(map(str, found.problems)) or "it has no fingerprint"
        raise CheckpointError(f"{folder} was written and cannot be read back: {listed}. Run again.")
    info = model_info(
        finished.config,
        name=folder.resolve().name,
        source=str(folder),
        revision=None,
        fingerprint=mark,
        dtype="float32",
    )
    lens = native_lens(
        head,
        info,
        patch=finished.config.vision.patch,
        fitted_on=f"{finished.said}, with the model",
        n_fit=finished.n_fit,
    )
    if not finished.small:
        return lens
    return with_fit_images(lens, [image_hash(read_image(each)) for each in finished.images()])


def _measured(finished: Finished, lens: NativeLens, folder: Path, device: torch.device) -> NativeLens:
    """The lens with its quality on the held-out images that can be read; as it was when there are none."""
    images = list(_held_out_images(finished))
    if len(images) < len(finished.held_out):
        logger.warning(
            "the lens is measured on %d of %d held-out images; the others cannot be read",
            len(images),
            len(finished.held_out),
        )
    if not images:
        return lens
    try:
        model = load_model(folder, device=device, **finished.sources)
    except CheckpointError as error:
        logger.warning("the lens is written and not measured: %s", error)
        return lens
    lens = replace(lens, head=lens.head.to(device, torch.float32))
    return with_quality(lens, decodings(model, lens, images))


def _held_out_images(finished: Finished) -> Iterator[np.ndarray]:
    for each in finished.held_out:
        try:
            yield np.asarray(read_image(each))
        except ImageError as error:
            logger.warning("left out of the measurement: %s", error)


def _trained_head(finished: Finished) -> Head | None:
    config = head_config(finished.config, finished.objective)
    if config is None:
        return None
    head = build_head(config)
    head.load_state_dict(_part(finished, "head."))
    if isinstance(head, ReleasedHead):
        _calibrate(head, finished)
    return head


def _part(finished: Finished, prefix: str) -> dict[str, Tensor]:
    state = finished.state.items()
    return {name.removeprefix(prefix): value for name, value in state if name.startswith(prefix)}


def _calibrate(head: ReleasedHead, finished: Finished) -> None:
    """Give the released form's pictures the typical mean and scale of training images' patches."""
    towers = [tower.kind for tower in finished.config.vision.towers]
    pictures = [read_image(each) for each in islice(finished.images(), CALIBRATION)]
    if not pictures:
        logger.warning(
            "no training image can be read any more: the lens's pictures have no typical brightness"
        )
        return
    pixels = image_transform(finished.config).pixels(pictures)
    head.embedding.calibrate(pixels[towers.index("siglip")])
