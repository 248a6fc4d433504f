"""A vision-language model with its losses, on batches of any data set."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from emma_viz.heads.head import Head, ReleasedHead, build_head
from emma_viz.models.vlm import VLM
from training.loop.conversations import TextBatch
from training.loop.distribution import Numbers
from training.loop.losses import summed_text_loss
from training.pocket.joint import tapped
from training.vision_language.objective import Objective, head_config


@dataclass(frozen=True, kw_only=True)
class BatchImages:
    """The images of a batch, one for each of its conversations."""

    pixels: tuple[Float[Tensor, "B 3 S S"], ...] | None
    """One normalised tensor a tower; None when the features are known."""
    features: Float[Tensor, "B P F"] | None
    """The frozen encoders' output; None when it is to be computed."""
    patches: Float[Tensor, "B T p p c"] | None
    """True pixels in [0, 1]; None when no loss needs them."""
    usable: Bool[Tensor, " B"]
    """False where the file could not be read: such a conversation has no loss."""


@dataclass(frozen=True, kw_only=True)
class TrainingBatch:
    """Conversations about images, or conversations alone."""

    text: TextBatch
    images: BatchImages | None

    @property
    def tokens(self) -> int:
        """Text tokens without padding."""
        return int(self.text.lengths.sum())


def moved(batch: TrainingBatch, device: torch.device) -> TrainingBatch:
    """A batch with all tensors on a device."""
    return _moved(batch, device)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, tuple):
        return tuple(_moved(each, device) for each in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{each.name: _moved(getattr(value, each.name), device) for each in fields(value)}
        )
    return value


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
        self, batch: TrainingBatch, *, labels: float | int, images: float | int
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
        embedded = self.vlm.llm.embed(batch.text.ids)
        n_image, features = 0, None
        if batch.images is not None:
            features = batch.images.features
            if features is None:
                features = self.vlm.vision(batch.images.pixels)
            tokens = self.vlm.embed_image(features=features)
            n_image = tokens.shape[1]
            embedded = torch.cat([tokens.to(embedded.dtype), embedded], dim=1)
        with tapped(self.vlm) as taps:
            hidden = self.vlm.llm.backbone(embedded)
        loss, right = summed_text_loss(hidden[:, n_image:], self.vlm.llm.lm_head.weight, batch.text.labels)
        loss = loss / labels
        numbers = {"text": loss.detach(), "accuracy": right / labels}
        if self.head is not None and batch.images is not None and images:
            share = self._pixel_share([tap[:, :n_image] for tap in taps], batch.images, features, images)
            loss = loss + self.objective.weight * share
            numbers["features" if self.objective.features else "pixels"] = share.detach()
        return loss, numbers

    def _pixel_share(
        self, taps: Sequence[Tensor], images: BatchImages, features: Tensor | None, total: float | int
    ) -> Float[Tensor, ""]:
        """The head's loss on the usable images, times their share of the step's."""
        assert self.head is not None
        kept = images.usable
        count = int(kept.sum())
        # With none usable the head still runs, with weight 0: every process must have its gradients.
        rows = kept if count else torch.ones_like(kept)
        chosen = [None if each is None else each[rows] for each in (images.patches, features)]
        loss = self.head.loss([tap[rows] for tap in taps], patches=chosen[0], features=chosen[1])
        return loss * (count / total)
