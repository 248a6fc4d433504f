"""A server that has answered many runs holds no more memory than one that has answered some."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apps.explorer.state import KEPT_IMAGES

WARM, RUNS = KEPT_IMAGES + 6, 200
"""Runs until all that is kept on purpose has been filled, and runs that must not add to it."""

ALLOWED = 30_000_000
"""Bytes that the allocator may shift: a tenth of what 200 results of the tiny models would hold."""


def resident() -> int:
    """Bytes that this process holds in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from Linux's /proc")
def test_memory_does_not_grow_over_200_runs(service, ask, tmp_path):
    secret, draw = service.sessions.open(), np.random.default_rng(0)
    path = tmp_path / "image.png"
    for number in range(WARM + RUNS):
        Image.fromarray(draw.integers(0, 256, (120, 160, 3), dtype=np.uint8)).save(path)
        news = ask(path, secret=secret, tokens=2)
        assert news["stage"] == "ready"
        service.payload(news)
        if number == WARM:
            before = resident()
    assert resident() - before < ALLOWED
