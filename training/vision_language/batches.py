"""From records on disk to the batches of a step."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from emma_viz.checkpoints.loaded import image_transform
from emma_viz.data.geometry import true_patches
from emma_viz.data.images import read_image
from emma_viz.errors import ImageError, RecordError
from emma_viz.models.config import VLMConfig
from emma_viz.records.complaints import Complaints
from emma_viz.records.tables import RecordTable, TextRules
from training.vision_language.batch import BatchImages, BatchShare, Sample, TrainingBatch, collate
from training.vision_language.feature_cache import FeatureCache, content_hash
from training.vision_language.plan import BatchPlan

GREY = 128
"""Stands for an image that cannot be read; its record has no loss."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ShareMaker:
    """Makes the batches of any step; may be called from several threads.

    Attributes:
        records: the data set.
        plan: which records a step sees.
        rules: how text becomes tokens.
        config: the model.
        rank: number of this process.
        world: processes in all.
        micro: records of a part.
        patches: whether a loss needs the true pixels.
        cache: features computed before; None: pixels are handed out, for the encoder.
        complaints: images that cannot be read are reported there.
    """

    records: RecordTable
    plan: BatchPlan
    rules: TextRules
    config: VLMConfig
    rank: int
    world: int
    micro: int
    patches: bool
    cache: FeatureCache | None
    complaints: Complaints

    def share_of(self, step: int) -> BatchShare:
        """This process's part of a step."""
        rows = self.plan.share_of(step, rank=self.rank, world=self.world, micro=self.micro)
        parts = tuple(self._batch(part) for part in rows)
        pictures = [part.images for part in parts if part.images is not None]
        return BatchShare(parts=parts, images=sum(int(each.usable.sum()) for each in pictures))

    def _batch(self, rows: np.ndarray) -> TrainingBatch:
        read = [self.records.read(row) for row in rows]
        samples = [self.rules.tokens(record) for record in read]
        images = None
        if read[0].image is not None:
            paths = [self.records.images / str(record.image) for record in read]
            images = self._images(paths, [record.index for record in read])
            usable = images.usable.tolist()
            samples = [one if good else _silent(one) for one, good in zip(samples, usable, strict=True)]
        return TrainingBatch(text=collate(samples, self.rules.tokenizer.pad_id), images=images)

    def _images(self, paths: list[Path], indices: list[int]) -> BatchImages:
        transform = image_transform(self.config)
        pictures, features, usable = [], [], []
        for path, index in zip(paths, indices, strict=True):
            picture, known, error = self._image(path)
            if error is not None:
                self.complaints.add(index, f"record {index}: {error}")
            pictures.append(picture)
            features.append(known)
            usable.append(error is None)
        patches = None
        if self.patches:
            views = np.stack([np.asarray(transform.view(picture)) for picture in pictures])
            patches = torch.from_numpy(true_patches(views, [transform.geometry(each) for each in pictures]))
        return BatchImages(
            pixels=transform.pixels(pictures) if self.cache is None else None,
            features=None if self.cache is None else torch.from_numpy(np.stack(features)).float(),
            patches=patches,
            usable=torch.tensor(usable),
        )

    def _image(self, path: Path) -> tuple[Image.Image, np.ndarray | None, str | None]:
        """The image (grey where it is not needed or cannot be read), its features, and what is wrong with it."""
        side = self.config.vision.image_size
        blank = Image.new("RGB", (side, side), (GREY, GREY, GREY))
        known = None if self.cache is None else self.cache.blank
        try:
            if self.cache is not None:
                known = self.cache.read(content_hash(path))
            needed = self.patches or self.cache is None
            return (read_image(path) if needed else blank), known, None
        except (ImageError, RecordError) as error:
            return blank, known, str(error)


def _silent(sample: Sample) -> Sample:
    """A sample without a loss."""
    ids, answers = sample
    return ids, [False] * len(answers)
