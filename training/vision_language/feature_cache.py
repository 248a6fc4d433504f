"""Features of the frozen encoders, computed once for any data set and kept on disk.

One file an image, named by the hash of the image file's bytes, in a folder named by the encoders' weights and the
preprocessing: a changed image, encoder or size has another name. Each file appears whole or not at all, so filling
that was stopped goes on where it was, and several processes or runs may fill one folder.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from emma_viz.checkpoints.beside import encoder_key
from emma_viz.checkpoints.loaded import image_transform
from emma_viz.data.images import read_image
from emma_viz.errors import ImageError, RecordError, TrainingError
from emma_viz.files.arrays import read_npy
from emma_viz.files.atomic import write_file
from emma_viz.files.json_door import open_regular
from emma_viz.models.vlm import VLM

STORED = np.float16
"""Type on disk: more digits than bfloat16, and features of these encoders lie far inside its range."""


@dataclass(frozen=True, kw_only=True)
class FeatureCache:
    """A folder of features.

    Attributes:
        folder: of these encoders.
        shape: (P, F) of an image's features.
    """

    folder: Path
    shape: tuple[int, int]

    @property
    def blank(self) -> np.ndarray:
        """Zeros, for an image that cannot be read."""
        return np.zeros(self.shape, dtype=STORED)

    def path(self, name: str) -> Path:
        """The file of an image."""
        return self.folder / name[:2] / f"{name}.npy"

    def read(self, name: str) -> np.ndarray:
        """The features of an image, (P, F).

        Raises:
            RecordError: it has none; filling the cache leaves out images that cannot be read.
            TrainingError: the file is damaged.
        """
        path = self.path(name)
        try:
            found = read_npy(path, error=TrainingError, mend="Delete it and run again.")
        except FileNotFoundError:
            raise RecordError(
                "the image has no features in the cache: it could not be read, or was changed since then"
            ) from None
        if found.shape != self.shape:
            raise TrainingError(
                f"{path} has shape {found.shape}, expected {self.shape}; delete it and run again."
            )
        return found

    def write(self, name: str, features: np.ndarray) -> None:
        """Keep the features of an image.

        Raises:
            TrainingError: they do not fit half precision, or the disk is full.
        """
        stored = features.astype(STORED)
        if not np.isfinite(stored).all():
            raise TrainingError(
                "Features are not finite in half precision; train without a feature cache (leave --feature-cache out)."
            )
        path = self.path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, lambda part: _save(part, stored))
        except OSError as error:
            raise TrainingError(
                f"{path} cannot be written: {error.strerror or error}. What is there stays; make room and run again."
            ) from error


def feature_cache_of(vlm: VLM, folder: Path, *, autocast: torch.dtype | None = None) -> FeatureCache:
    """The cache of a model's encoders in a folder that several may share; encoders that compute otherwise have another.

    Args:
        vlm: whose encoders they are.
        folder: may hold caches of others.
        autocast: as for `fill_cache`.
    """
    vision = vlm.config.vision
    types = sorted({str(each.dtype) for each in vlm.vision.parameters()})
    told = json.dumps([encoder_key(vlm), asdict(vision), types, str(autocast)])
    rows, columns = vision.grid
    return FeatureCache(
        folder=folder / hashlib.sha256(told.encode()).hexdigest()[:24], shape=(rows * columns, vision.width)
    )


@torch.no_grad()
def fill_cache(
    cache: FeatureCache,
    vlm: VLM,
    paths: Sequence[Path],
    *,
    batch: int = 16,
    autocast: torch.dtype | None = None,
    progress: bool = True,
) -> int:
    """Compute what the cache lacks; images that cannot be read are left out.

    Args:
        cache: from `feature_cache_of`.
        vlm: its encoders must be on the device that shall compute.
        paths: image files; with several processes, this one's part.
        batch: images encoded at once.
        autocast: compute in this type.
        progress: whether to show a bar.

    Returns:
        How many images were encoded.
    """
    transform, device = image_transform(vlm.config), next(vlm.vision.parameters()).device
    waiting: dict[str, Image.Image] = {}
    count = 0

    def encode() -> None:
        pixels = [tensor.to(device) for tensor in transform.pixels(list(waiting.values()))]
        with torch.autocast(device.type, autocast or torch.bfloat16, enabled=autocast is not None):
            features = vlm.vision(pixels)
        for name, one in zip(waiting, features.float().cpu().numpy(), strict=True):
            cache.write(name, one)
        waiting.clear()

    for path in tqdm(paths, desc="encode images", disable=not progress):
        try:
            name = content_hash(path)
            if name in waiting or cache.path(name).exists():
                continue
            waiting[name] = read_image(path)
        except ImageError:
            continue
        count += 1
        if len(waiting) == batch:
            encode()
    if waiting:
        encode()
    return count


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array)


def content_hash(path: Path) -> str:
    """What names an image file's content.

    Raises:
        ImageError: there is no such file, or it cannot be read.
    """
    try:
        with open_regular(path, error=ImageError) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError as failure:
        raise ImageError(f"{path} cannot be read ({failure.strerror or failure}).") from failure
