"""The pixel losses that EMMA adds to the text loss, in both forms."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from emma_viz.lens.pixels import to_units

RELEASED_WEIGHT = 1e-5
"""Factor of the released code's sum of squares."""


def paper_loss(
    decoded: Float[Tensor, "B T ppc"],
    patches: Float[Tensor, "B T p p c"],
    *,
    reduction: Literal["mean", "sum"] = "mean",
) -> Float[Tensor, ""]:
    """Squared L2 between the decoded image and the image (Eq. 9).

    Args:
        decoded: what a `PaperHead` returns, in units of (x − 0.5)/0.25.
        patches: the true pixels in [0, 1], row-major over the grid.
        reduction: "sum" is the squared L2 norm of an image, averaged over the batch, as the equation reads;
            "mean" divides that by the number of pixel values, so that the weight of the loss does not depend
            on the size of the image.
    """
    error = (decoded.float() - to_units(patches.float())).square()
    return error.mean() if reduction == "mean" else error.sum(dim=(1, 2)).mean()


def released_loss(decoded: Float[Tensor, "B T F"], target: Float[Tensor, "B T F"]) -> Float[Tensor, ""]:
    """The released code's loss: the sum of squared differences over everything, batch included, times 1e-5.

    Args:
        decoded: what a `ReleasedHead` returns, in regrouped order.
        target: `PatchEmbedding.target` of the same images, in the same order.
    """
    return F.mse_loss(decoded.float(), target.float(), reduction="sum") * RELEASED_WEIGHT
