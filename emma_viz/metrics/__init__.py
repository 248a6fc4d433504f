"""Numbers from decodings, maps and masks. Nothing here is trained."""

from emma_viz.lens.quality import correlation, psnr, r2, ssim
from emma_viz.metrics.masks import auroc, mask_on_grid
from emma_viz.metrics.scores import ImageScore, LayerScore, measure

__all__ = [
    "ImageScore",
    "LayerScore",
    "auroc",
    "correlation",
    "mask_on_grid",
    "measure",
    "psnr",
    "r2",
    "ssim",
]
