"""Selective scan, SSD and causal convolution: one signature each, several backends, values and gradients."""

from emma_viz.kernels.api import causal_conv1d, gated_rms_norm, selective_scan, ssd
from emma_viz.kernels.backends import available_backends, resolve_backend
from emma_viz.kernels.products import linear
from emma_viz.kernels.steps import causal_conv1d_step, selective_scan_step, ssd_step

__all__ = [
    "available_backends",
    "causal_conv1d",
    "causal_conv1d_step",
    "gated_rms_norm",
    "linear",
    "resolve_backend",
    "selective_scan",
    "selective_scan_step",
    "ssd",
    "ssd_step",
]
