"""The share of a step's loss that a batch's pixels have."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from emma_viz.heads.head import Head
from training.vision_language.batch import BatchImages


def pixel_share(
    head: Head, taps: Sequence[Tensor], images: BatchImages, total: float | int
) -> Float[Tensor, ""]:
    """The head's loss on the usable images, times their share of the step's.

    Args:
        head: what is trained beside the model.
        taps: the states of the image tokens that it reads, each (B, T, D).
        images: of the batch, with the features that the encoders made of them.
        total: usable images in the whole step.
    """
    kept = images.usable
    count = int(kept.sum())
    # With none usable the head still runs, with weight 0: every process must have its gradients.
    rows = kept if count else torch.ones_like(kept)
    chosen = [None if each is None else each[rows] for each in (images.patches, images.features)]
    loss = head.loss([tap[rows] for tap in taps], patches=chosen[0], features=chosen[1])
    return loss * (count / total)
