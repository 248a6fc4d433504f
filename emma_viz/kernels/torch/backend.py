"""The `torch` backend: chunked kernels in plain torch, on any device."""

from emma_viz.kernels.torch.conv import causal_conv1d
from emma_viz.kernels.torch.scan import selective_scan
from emma_viz.kernels.torch.ssd import ssd

__all__ = ["causal_conv1d", "selective_scan", "ssd"]
