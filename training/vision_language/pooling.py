"""Image tokens, and the image with them, averaged in squares: four times fewer, so that many steps are affordable."""

from dataclasses import replace

from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from training.vision_language.batch import BatchImages

POOL = 2
"""Side of the squares of image tokens that are averaged in the pooled steps."""


def pool_tokens(tokens: Float[Tensor, "B T D"], grid: tuple[int, int]) -> Float[Tensor, "B t D"]:
    """Average squares of POOL×POOL neighbouring tokens."""
    rows = grid[0] // POOL
    return reduce(tokens, "B (R a C b) D -> B (R C) D", "mean", R=rows, a=POOL, b=POOL)


def pool_patches(patches: Float[Tensor, "B T p p c"], grid: tuple[int, int]) -> Float[Tensor, "B t p p c"]:
    """The patches of the image shrunk by POOL."""
    p = patches.shape[2]
    image = rearrange(patches, "B (R C) p q c -> B (R p) (C q) c", R=grid[0])
    small = reduce(image, "B (h a) (w b) c -> B h w c", "mean", a=POOL, b=POOL)
    return rearrange(small, "B (R p) (C q) c -> B (R C) p q c", p=p, q=p)


def pooled(
    tokens: Float[Tensor, "B T D"], images: BatchImages, grid: tuple[int, int]
) -> tuple[Float[Tensor, "B t D"], BatchImages]:
    """Image tokens averaged, and their images' features and patches with them."""
    features, patches = images.features, images.patches
    small = replace(
        images,
        features=None if features is None else pool_tokens(features, grid),
        patches=None if patches is None else pool_patches(patches, grid),
    )
    return pool_tokens(tokens, grid), small
