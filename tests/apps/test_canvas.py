"""The canvas's own unit tests, in Node."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.skipif(
    shutil.which("node") is None, reason="the tests of the JavaScript need Node (20 or newer)"
)
def test_the_canvas_passes_its_own_tests():
    done = subprocess.run(
        ["node", "--test", str(HERE / "canvas.test.js")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# fail 0" in done.stdout
    assert "# pass 0" not in done.stdout
