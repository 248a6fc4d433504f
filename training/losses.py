"""The losses of the language and joint stages."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from training.conversations import IGNORED


def text_loss(logits: Float[Tensor, "B M V"], labels: Int[Tensor, "B M"]) -> Float[Tensor, ""]:
    """Mean cross-entropy over the positions that have a label."""
    return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED)


def answer_accuracy(logits: Float[Tensor, "B M V"], labels: Int[Tensor, "B M"]) -> float:
    """Share of labelled positions whose most likely token is right."""
    kept = labels != IGNORED
    return (logits.argmax(-1)[kept] == labels[kept]).float().mean().item()


def pixel_loss(decoded: Float[Tensor, "B T Q"], target: Float[Tensor, "B T Q"]) -> Float[Tensor, ""]:
    """Mean squared error of patch pixels, both normalised by the same constants for every image.

    The paper's loss is the squared L2 distance of image and decoded image; the mean in place of the sum
    makes its weight independent of the image's size.
    """
    return F.mse_loss(decoded.float(), target.float())
