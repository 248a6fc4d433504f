"""A vision-language model with its losses, on batches of any data set."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from emma_viz.heads.head import Head, ReleasedHead, build_head
from emma_viz.models.vlm import VLM
from training.loop.distribution import Numbers
from training.loop.losses import summed_text_loss
from training.pocket.joint import tapped
from training.vision_language.batch import TrainingBatch
from training.vision_language.objective import Objective, head_config
from training.vision_language.pixel_loss import pixel_share


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
            share = pixel_share(self.head, [tap[:, :n_image] for tap in taps], batch.images, features, images)
            loss = loss + self.objective.weight * share
            numbers["features" if self.objective.features else "pixels"] = share.detach()
        return loss, numbers
