"""A vision-language model with its losses, on batches of any data set."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from emma_viz.heads.head import Head, ReleasedHead, build_head
from emma_viz.models.vlm import VLM
from training.loop.distribution import Numbers
from training.vision_language.batch import BatchImages, ForkedBatch, TextBatch, TrainingBatch
from training.vision_language.forks import pooled, run_forks, run_prefix, tapped
from training.vision_language.losses import pixel_share, text_loss
from training.vision_language.objective import Objective, head_config


class VisionLanguageTask(nn.Module):
    """A VLM and, where there is a pixel loss, the head that is trained beside it.

    Args:
        vlm: its encoders are frozen.
        objective: the losses.
    """

    def __init__(self, vlm: VLM, objective: Objective):
        super().__init__()
        self.vlm, self.objective = vlm, objective
        config = head_config(vlm.config, objective)
        self.head: Head | None = None if config is None else build_head(config, backend=vlm.backend)
        if isinstance(self.head, ReleasedHead):
            self.head.embedding.copy_from_encoder(vlm.vision)

    def forward(
        self, batch: TrainingBatch | ForkedBatch, *, labels: float | int, images: float | int
    ) -> tuple[Float[Tensor, ""], Numbers]:
        """This batch's share of a step's loss.

        Shares of parts and processes add up: to the mean cross-entropy over all labels of the step, plus the weighted
        mean over all its images of the pixel loss.

        Args:
            batch: a part of the step.
            labels: tokens with a loss in the whole step, over all parts and processes.
            images: usable images in the whole step.

        Returns:
            The share, and shares of the numbers worth watching.
        """
        batch = moved(batch, self.vlm.llm.lm_head.weight.device)
        if isinstance(batch, ForkedBatch):
            texts, taps, pictures = self._from_shared_images(batch)
        else:
            texts, taps, pictures = self._behind_its_image(batch)
        sums = [text_loss(states, self.vlm.llm.lm_head.weight, text.labels) for states, text in texts]
        loss = torch.stack([each for each, _ in sums]).sum() / labels
        right = torch.stack([each for _, each in sums]).sum()
        lengths = torch.cat([text.lengths for _, text in texts])
        tokens = lengths.sum() + taps[-1].shape[0] * taps[-1].shape[1]
        numbers = {"text": loss.detach(), "accuracy": right / labels, "tokens": tokens}
        if self.head is not None and pictures is not None:
            share = pixel_share(self.head, taps, pictures, images or 1)
            loss = loss + self.objective.weight * share
            numbers["features" if self.objective.features else "pixels"] = share.detach()
        return loss, numbers

    def _behind_its_image(self, batch: TrainingBatch) -> "States":
        """Each conversation stands behind an image of its own, or behind none."""
        embedded, pictures, n_image = self.vlm.llm.embed(batch.text.ids), None, 0
        if batch.images is not None:
            tokens, pictures = self._seen(batch.images)
            n_image = tokens.shape[1]
            embedded = torch.cat([tokens.to(embedded.dtype), embedded], dim=1)
        with tapped(self.vlm) as taps:
            hidden = self.vlm.llm.backbone(embedded)
        return [(hidden[:, n_image:], batch.text)], [tap[:, :n_image] for tap in taps], pictures

    def _from_shared_images(self, batch: ForkedBatch) -> "States":
        """Each image is run once, and every conversation about it starts from its states."""
        tokens, pictures = self._seen(batch.images)
        if batch.pooled:
            tokens, pictures = pooled(tokens, pictures, self.vlm.grid)
        with tapped(self.vlm) as taps:
            _, states = run_prefix(self.vlm.llm.backbone, tokens)
        return run_forks(self.vlm.llm.backbone, states, batch.forks), taps, pictures

    def _seen(self, images: BatchImages) -> tuple[Float[Tensor, "B T D"], BatchImages]:
        """The image tokens, and the images with the encoders' features."""
        features = self.vlm.vision(images.pixels) if images.features is None else images.features
        return self.vlm.embed_image(features=features), replace(images, features=features)


States = tuple[list[tuple[Tensor, TextBatch]], list[Tensor], BatchImages | None]
"""Final states of texts, the taps of the image tokens, and the images."""


def moved(value: Any, device: torch.device) -> Any:
    """A batch with all tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, tuple):
        return tuple(moved(each, device) for each in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{each.name: moved(getattr(value, each.name), device) for each in fields(value)}
        )
    return value
