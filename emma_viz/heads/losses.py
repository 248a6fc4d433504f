"""The losses that EMMA adds to the text loss: pixels in both forms, and features in place of pixels (AVF)."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from emma_viz.errors import InputError
from emma_viz.heads.pixels import to_units

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


def released_loss(
    decoded: Float[Tensor, "B T F"],
    target: Float[Tensor, "B T F"],
    *,
    reduction: Literal["sum", "image"] = "sum",
) -> Float[Tensor, ""]:
    """The released code's loss: the sum of squared differences times 1e-5.

    Args:
        decoded: what a `ReleasedHead` returns, in regrouped order.
        target: `PatchEmbedding.target` of the same images, in the same order.
        reduction: "sum" is over everything, batch included, as the code reads. "image" divides that by the
            number of images. The released runs have one image in a device's batch and average over devices
            and accumulated steps, so "image" is their loss at any batch size.
    """
    total = F.mse_loss(decoded.float(), target.float(), reduction="sum") * RELEASED_WEIGHT
    return total / len(decoded) if reduction == "image" else total


def feature_loss(
    decoded: Float[Tensor, "B T F"], features: Float[Tensor, "B T F"], *, widths: Sequence[int]
) -> Float[Tensor, ""]:
    """Mean squared difference to the frozen encoders' features: the ablation AVF, in place of the pixels.

    Args:
        decoded: what a `PaperHead` with `target="features"` returns.
        features: output of the model's vision encoder, row-major over the grid.
        widths: channels of each encoder; see `feature_target`.
    """
    return F.mse_loss(decoded.float(), feature_target(features, widths=widths))


def feature_target(features: Float[Tensor, "B T F"], *, widths: Sequence[int]) -> Float[Tensor, "B T F"]:
    """What AVF predicts: each encoder's part of each token, normalised over its channels, in fp32.

    The paper does not give the units. Raw features of DINOv2 have a few channels far larger than all others,
    and the two encoders differ in scale; without normalisation the loss would be about those alone. The
    released code normalises its own target in the same way.

    Raises:
        InputError: the widths do not add up to the features' channels.
    """
    if sum(widths) != features.shape[-1]:
        raise InputError(
            f"The encoders' widths {tuple(widths)} add up to {sum(widths)}; these features have "
            f"{features.shape[-1]} channels. Set DecoderConfig.feature_widths to the widths of the towers."
        )
    parts = features.float().split(list(widths), dim=-1)
    return torch.cat([F.layer_norm(part, part.shape[-1:], eps=1e-6) for part in parts], dim=-1)
