"""A server that has answered many runs holds no more memory than one that has answered some."""

from pathlib import Path

import pytest
from PIL import Image

from apps.explorer.state import KEPT_IMAGES

WARM, RUNS = KEPT_IMAGES + 6, 200
"""Runs until all that is kept on purpose has been filled, and runs that must not add to it."""

SIZE = (800, 600)
ALLOWED = RUNS * SIZE[0] * SIZE[1] * 3 // 10
"""Bytes that the allocator may shift: a tenth of what the images of all these runs hold."""


def resident() -> int:
    """Bytes that this process holds in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from Linux's /proc")
def test_memory_does_not_grow_over_200_runs(service, ask, tmp_path):
    secret = service.sessions.open()
    path = tmp_path / "image.png"
    for number in range(WARM + RUNS):
        Image.new("RGB", SIZE, (number % 256, number // 256, 90)).save(path, compress_level=1)
        news = ask(path, secret=secret, tokens=2)
        assert news["stage"] == "ready"
        service.payload(news)
        if number == WARM:
            before = resident()
    assert resident() - before < ALLOWED
