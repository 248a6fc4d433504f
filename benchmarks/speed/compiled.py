"""Our Triton kernels, compiled to machine code without a GPU: that they compile, and the shared memory they take.

The public functions are called on CPU tensors, and each launch is compiled with what it was given in place of running,
so that types, tiles and alignments are those of a launch. Not under Triton's interpreter (TRITON_INTERPRET).
"""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.speed.rows import Row

TARGETS = (80, 90)
"""Compute capabilities, times ten."""
ROOM = 101_376
"""Bytes of shared memory that a program may have on an RTX 30 or 40 (compute capability 8.6, 8.9)."""


def compiled() -> Iterator[Row]:
    """A row for each call: the most shared memory that one of its kernels takes, at any of the targets."""
    if not importlib.util.find_spec("triton"):
        print("left out: triton is not installed here (pip install triton; Linux)", file=sys.stderr)
        return
    for name, (call, goal) in _calls().items():
        found = {target: shared_bytes(call, target) for target in TARGETS}
        most = [float(max(kernels.values())) for kernels in found.values()]
        words = [
            f"{target / 10}: " + ", ".join(f"{kernel} {size}" for kernel, size in kernels.items())
            for target, kernels in found.items()
        ]
        yield Row(
            what=f"{name}: shared memory of a program", unit="bytes", median=max(most), low=min(most), high=max(most),
            rounds=len(most), goal=goal, note="; ".join(words),
        )  # fmt: skip


def shared_bytes(call: Callable[[], object], target: int) -> dict[str, int]:
    """Compile the kernels that a call would launch on an NVIDIA GPU of a compute capability.

    Args:
        call: of our Triton functions, on CPU tensors; what they return means nothing.
        target: the compute capability, times ten.

    Returns:
        The name of each kernel, and the bytes of shared memory that it takes.
    """
    if os.environ.get("TRITON_INTERPRET") == "1":
        raise RuntimeError("under Triton's interpreter (TRITON_INTERPRET=1) nothing is compiled")
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    found: dict[str, int] = {}
    launch = JITFunction.run

    def compile_alone(self: JITFunction, *given, grid, warmup, **named) -> None:
        kernel = launch(self, *given, grid=grid, warmup=True, **named)
        assert kernel is not None
        assert "cubin" in kernel.asm
        name = self.__name__.strip("_")
        found[name] = max(found.get(name, 0), kernel.metadata.shared)  # it may be launched in several ways

    card = SimpleNamespace(
        get_current_device=lambda: target,  # what is compiled is kept by device
        get_current_stream=lambda device: 0,
        get_current_target=lambda: GPUTarget("cuda", target, 32),
    )
    with patch.object(JITFunction, "run", compile_alone), patch.object(driver, "_active", card):
        call()
    return found


def _calls() -> dict[str, tuple[Callable[[], object], float | None]]:
    """What is compiled, and how much shared memory it may take."""
    half, full = torch.bfloat16, torch.float32
    return {
        "convolution and its gradient, fp32": (partial(_convolve, full), ROOM),
        "selective scan and its gradient, 16 states, fp32": (partial(_scan, full), ROOM),
        **{
            f"SSD and its gradient, {states} states, {word}": (
                partial(_ssd, dtype, states),
                ROOM if states <= 128 else None,
            )
            for states, dtype, word in (
                (64, full, "fp32"),
                (128, full, "fp32"),
                (128, half, "bf16"),
                (256, full, "fp32"),
            )
        },
        "SSD and its gradient, 128 states, fp32, in tiles of 32 (not used)": (
            partial(_ssd, full, 128, 128),
            None,
        ),
        "a step of the selective scan, bf16": (partial(_scan_step, half), ROOM),
        "a step of the SSD, 128 states, bf16": (partial(_ssd_step, half), ROOM),
    }


def _draw(dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.rand(shape, dtype=dtype, requires_grad=True)


def _back(y: Tensor) -> None:
    y.float().sum().backward()


def _convolve(dtype: torch.dtype) -> None:
    from emma_viz.kernels.triton.conv import causal_conv1d

    draw = partial(_draw, dtype)
    _back(causal_conv1d(draw(1, 64, 128), draw(128, 4), draw(128), None, "silu"))


def _scan(dtype: torch.dtype) -> None:
    from emma_viz.kernels.triton.scan import selective_scan

    draw, wide = partial(_draw, dtype), (1, 64, 128)
    given = draw(*wide), draw(*wide), draw(128, 16), draw(1, 64, 16), draw(1, 64, 16), draw(128), draw(*wide)
    _back(selective_scan(*given, draw(128), True, None)[0])


def _ssd(dtype: torch.dtype, states: int, few: int | None = None) -> None:
    """With tiles of 32 up to `few` states; as it is launched when None."""
    from emma_viz.kernels.triton import ssd

    draw = partial(_draw, dtype)
    vectors = draw(1, 64, 1, states), draw(1, 64, 1, states)
    with patch.object(ssd, "_FEW_STATES", ssd._FEW_STATES if few is None else few):
        given = draw(1, 64, 16, 64), draw(1, 64, 16), draw(16), *vectors, draw(16), draw(16)
        _back(ssd.ssd(*given, True, None)[0])


@torch.no_grad()
def _scan_step(dtype: torch.dtype) -> None:
    from emma_viz.kernels.triton.steps import selective_scan_step

    draw = partial(_draw, dtype)
    given = draw(1, 128), draw(1, 128), draw(128, 16), draw(1, 16), draw(1, 16), draw(128), draw(1, 128)
    selective_scan_step(torch.zeros(1, 128, 16), *given, draw(128), True)


@torch.no_grad()
def _ssd_step(dtype: torch.dtype) -> None:
    from emma_viz.kernels.triton.steps import ssd_step

    draw = partial(_draw, dtype)
    given = draw(1, 16, 64), draw(1, 16), draw(16), draw(1, 1, 128), draw(1, 1, 128), draw(16), draw(16)
    ssd_step(torch.zeros(1, 16, 64, 128), *given, True)
