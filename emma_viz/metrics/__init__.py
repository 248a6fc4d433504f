"""Numbers from decodings, maps and masks. Nothing here is trained."""

from emma_viz.metrics.masks import auroc, mask_on_grid
from emma_viz.metrics.quality import correlation, psnr, r2, ssim

__all__ = [
    "auroc",
    "correlation",
    "mask_on_grid",
    "psnr",
    "r2",
    "ssim",
]
