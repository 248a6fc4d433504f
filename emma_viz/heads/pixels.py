"""The pixel units of the decoders, and patches as flat vectors.

A decoder predicts (x − 0.5)/0.25 with GLOBAL constants: per-image or per-patch normalisation would throw away
the brightness and contrast that the picture is about.
"""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from emma_viz.shapes import CHANNELS

PIXEL_MEAN = 0.5
PIXEL_STD = 0.25


def to_units(patches: Float[Tensor, "B T p p c"]) -> Float[Tensor, "B T ppc"]:
    """Patches with pixels in [0, 1] as the flat vectors that a decoder predicts.

    Row by row, the colours of a pixel side by side: a 14×14 patch gives 588 numbers.
    """
    return (rearrange(patches, "b t h w c -> b t (h w c)") - PIXEL_MEAN) / PIXEL_STD


def from_units(decoded: Float[Tensor, "B T ppc"], patch: int) -> Float[Tensor, "B T p p c"]:
    """Undo `to_units`; the pixels are not clipped."""
    patches = rearrange(decoded, "b t (h w c) -> b t h w c", h=patch, w=patch, c=CHANNELS)
    return patches * PIXEL_STD + PIXEL_MEAN
