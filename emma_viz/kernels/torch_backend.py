"""The `torch` backend: chunked kernels in plain torch, on any device."""

from emma_viz.kernels.torch_conv import causal_conv1d
from emma_viz.kernels.torch_scan import selective_scan
from emma_viz.kernels.torch_ssd import ssd

__all__ = ["causal_conv1d", "selective_scan", "ssd"]
