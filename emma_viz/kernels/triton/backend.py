"""The `triton` backend: kernels for a GPU that need no compiler of the user's. Importing this module imports triton.

Kernels compute the recurrences in fp32; skip, gate and activations are elementwise torch around them. With
TRITON_INTERPRET=1 in the environment they run on CPU tensors under Triton's interpreter: slow, for tests.
"""

from emma_viz.kernels.triton.conv import causal_conv1d
from emma_viz.kernels.triton.scan import selective_scan
from emma_viz.kernels.triton.ssd import ssd

__all__ = ["causal_conv1d", "limits", "selective_scan", "ssd"]

_MOST_STATES = 256
"""A program keeps a block's states in registers."""


def limits(kernel: str, sizes: dict[str, int]) -> str:
    """Why the kernel does not take these sizes; empty when it does."""
    if kernel != "causal_conv1d" and sizes.get("N", 0) > _MOST_STATES:
        return f"it takes at most {_MOST_STATES} states, not {sizes['N']}"
    return ""
