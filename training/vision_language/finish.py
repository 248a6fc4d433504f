"""What a finished run leaves: a run directory that loads, and the trained decoder as its lens."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from emma_viz.checkpoints import inspect, load_model, save_run_directory
from emma_viz.checkpoints.loaded import image_transform, model_info
from emma_viz.data.images import read_image
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.errors import CheckpointError, ImageError, RecordError
from emma_viz.heads.head import Head, ReleasedHead, build_head
from emma_viz.lens.evaluation import with_quality
from emma_viz.lens.files import save_lens
from emma_viz.lens.native import NativeLens, native_lens
from emma_viz.models.config import VLMConfig
from emma_viz.records.tables import RecordTable
from training.loop.lenses import decodings
from training.vision_language.objective import head_config
from training.vision_language.official import VisionLanguageRecipe

logger = logging.getLogger(__name__)

ENCODER_FILE = "encoder.safetensors"
"""File of encoders that are not the usual ones, beside the model; pass it as `vision_source`."""
CALIBRATION = 32
"""Training images whose patches give the released form's pictures their typical brightness."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Finished:
    """A trained model, before it is written.

    Attributes:
        recipe: how it was trained.
        config: of the model.
        state: of the task: `vlm.*` and, with a pixel loss, `head.*`.
        tokenizer: the model's.
        records: what it was trained on.
        held_out: images it was not trained on.
        encoder: file of its encoders when they are not the usual ones.
        provenance: for config.json.
    """

    recipe: VisionLanguageRecipe
    config: VLMConfig
    state: Mapping[str, Tensor]
    tokenizer: Tokenizer
    records: RecordTable
    held_out: tuple[Path, ...]
    encoder: Path | None
    provenance: dict[str, Any]


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
    state = {
        name.removeprefix("vlm."): value for name, value in finished.state.items() if name.startswith("vlm.")
    }
    save_run_directory(
        folder,
        finished.config,
        state,
        dtype="bfloat16" if finished.recipe.precision == "bf16" else None,
        tokenizer=finished.tokenizer,
        provenance=finished.provenance,
    )
    head = _trained_head(finished)
    if head is None:
        return
    if not head.makes_pictures:
        logger.warning("the decoder was trained on features (AVF) and makes no pictures: no lens is written")
        return
    lens = _lens(finished, head, folder)
    save_lens(lens, folder / "native.lens")
    if finished.held_out:
        measured = _measured(finished, lens, folder, device)
        save_lens(replace(measured, head=measured.head.cpu()), folder / "native.lens")


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
    return native_lens(
        head,
        info,
        patch=finished.config.vision.patch,
        fitted_on=f"{finished.records.path.name}, with the model",
        n_fit=len(finished.records.first_of_each_image()) - len(finished.held_out),
    )


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
        model = load_model(folder, vision_source=finished.encoder, device=device)
    except CheckpointError as error:
        logger.warning("the lens is written and not measured: %s", error)
        return lens
    lens = replace(lens, head=lens.head.to(device))
    return with_quality(lens, decodings(model, lens, images))


def _held_out_images(finished: Finished) -> Iterator[np.ndarray]:
    for path in finished.held_out:
        try:
            yield np.asarray(read_image(path))
        except ImageError as error:
            logger.warning("left out of the measurement: %s", error)


def _trained_head(finished: Finished) -> Head | None:
    config = head_config(finished.config, finished.recipe.objective)
    if config is None:
        return None
    head = build_head(config)
    head.load_state_dict(
        {n.removeprefix("head."): value for n, value in finished.state.items() if n.startswith("head.")}
    )
    if isinstance(head, ReleasedHead):
        _calibrate(head, finished)
    return head


def _calibrate(head: ReleasedHead, finished: Finished) -> None:
    """Give the released form's pictures the typical mean and scale of training images' patches."""
    towers = [tower.kind for tower in finished.config.vision.towers]
    pictures = list(islice(_training_images(finished), CALIBRATION))
    if not pictures:
        logger.warning(
            "no training image can be read any more: the lens's pictures have no typical brightness"
        )
        return
    pixels = image_transform(finished.config).pixels(pictures)
    head.embedding.calibrate(pixels[towers.index("siglip")])


def _training_images(finished: Finished) -> Iterator[Image.Image]:
    """The images that were trained on, without those that cannot be read."""
    records, left_out = finished.records, set(finished.held_out)
    for row in records.first_of_each_image():
        try:
            path = records.image_path(row)
            if path not in left_out:
                yield read_image(path)
        except (ImageError, RecordError) as error:
            logger.warning("not used to calibrate: %s", error)
