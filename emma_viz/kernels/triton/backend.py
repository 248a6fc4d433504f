"""The `triton` backend: kernels for a GPU that need no nvcc. Importing this module imports triton.

Triton brings the compiler of its kernels along, but makes the driver that launches them with the machine's C compiler,
once a user: see `start`. Kernels compute the recurrences in fp32; skip, gate and activations are elementwise torch
around them. With TRITON_INTERPRET=1 in the environment they run on CPU tensors under Triton's interpreter: slow, for
tests.
"""

import os

import torch
from triton.runtime import driver

from emma_viz.kernels.triton.conv import causal_conv1d
from emma_viz.kernels.triton.scan import selective_scan
from emma_viz.kernels.triton.ssd import ssd
from emma_viz.kernels.triton.steps import selective_scan_step, ssd_step

__all__ = ["causal_conv1d", "limits", "selective_scan", "selective_scan_step", "ssd", "ssd_step", "start"]

_MOST_STATES = 256
"""A program keeps a block's states in registers."""

_MANY_STATES, _SHARED_BYTES = 128, 121_616
"""Beyond so many states the gradient of the SSD takes so much shared memory (compiled for compute capability 8.0 and
9.0, fp32; up to them at most 83 472 bytes, at 64 states): `python -m benchmarks.run --rows compiled`."""


def start() -> str:
    """Load Triton's driver, as the first kernel would; why that cannot be, empty when it is done.

    Triton compiles it with what CC names, gcc or clang, and Python's headers, and keeps it in ~/.triton.
    """
    if os.environ.get("TRITON_INTERPRET") == "1":
        return ""
    try:
        driver.active.get_current_target()
    except Exception as error:  # no compiler, no headers, no CUDA driver: each is of a class of its own
        return (
            f"Triton's driver cannot be loaded: {type(error).__name__}: {error} (it is made with a C compiler: install "
            "gcc or clang and Python's headers, or name a compiler in CC)"
        )
    return ""


def limits(kernel: str, sizes: dict[str, int]) -> str:
    """Why the kernel does not take these sizes; empty when it does."""
    if kernel != "causal_conv1d" and sizes.get("N", 0) > _MOST_STATES:
        return f"it takes at most {_MOST_STATES} states, not {sizes['N']}"
    if kernel == "ssd" and sizes.get("N", 0) > _MANY_STATES and torch.cuda.is_available():
        room = torch.cuda.get_device_properties(torch.cuda.current_device()).shared_memory_per_block_optin
        if room < _SHARED_BYTES:
            return f"{sizes['N']} states take {_SHARED_BYTES} bytes of shared memory, and this GPU has {room}"
    return ""
