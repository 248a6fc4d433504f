"""The canvas's own unit tests, in Node."""

import subprocess
from pathlib import Path

from tests.apps.programs import program

HERE = Path(__file__).parent


def test_the_canvas_passes_its_own_tests():
    command = [program("node"), "--test", "--test-reporter=tap", str(HERE / "canvas.test.js")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# fail 0" in done.stdout
    assert "# pass 0" not in done.stdout
