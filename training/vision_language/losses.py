"""The text loss, and the share of a step's loss that pixels have; the pixel losses are emma_viz.heads.losses."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from emma_viz.heads.head import Head
from emma_viz.records.llava import IGNORE
from training.vision_language.batch import BatchImages


def text_loss(
    hidden: Float[Tensor, "B M D"], head: Float[Tensor, "V D"], labels: Int[Tensor, "B M"]
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """Summed cross-entropy over the positions that have a label: sums of the parts of a step can be added.

    Only those are scored, which on long prompts is a fraction of them.

    Args:
        hidden: final states of the text tokens.
        head: the language model's output matrix.
        labels: what each position must predict; -100 where nothing.

    Returns:
        The sum (0 where nothing is labelled), and how many most likely tokens are right.
    """
    kept = labels != IGNORE
    scores = F.linear(hidden[kept], head).float()
    wanted = labels[kept]
    return F.cross_entropy(scores, wanted, reduction="sum"), (scores.argmax(-1) == wanted).sum()


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
