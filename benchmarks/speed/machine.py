"""What numbers were measured on and with."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

_PACKAGES = ("torch", "numba", "triton", "transformers", "mambapy", "transformer-lens", "numpy")

_KEPT = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "NUMBA_CPU_NAME")
"""Variables that keep libraries to fewer instructions than the processor has."""


def machine(threads: int | None = None) -> str:
    """What the numbers were measured on and with.

    Args:
        threads: of what was measured, where these are not this process's.
    """
    count, versions = threads or torch.get_num_threads(), []
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    capability = torch.backends.cpu.get_cpu_capability()
    if kept := [f"{name}={os.environ[name]}" for name in _KEPT if name in os.environ]:
        capability += f" by {' '.join(kept)}"
    return (
        f"{_processor()} ({capability}), {count} thread{'s' * (count > 1)}, Python {platform.python_version()}, "
        f"{', '.join(versions)}; {datetime.now(UTC):%Y-%m-%d}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )
