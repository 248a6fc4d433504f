"""The notebooks run offline, from top to bottom, and are kept without outputs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
PARTS = {
    "first-figure": ("<iframe", "emma-v1-pocket:", "figure.html"),
    "new-checkpoint": ("my-cobra", "ridge", "report.html", "<img"),
    "hallucination": ("right: False", "nats", "<iframe", "<img"),
    "own-probe": ("shuffled labels", "Overwriting|Writing", "<img"),
}
"""Name → what its page must show beside its text."""


def test_every_notebook_is_looked_at_here():
    assert {path.stem for path in NOTEBOOKS} == set(PARTS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_outputs(path):
    notebook = json.loads(path.read_text("utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) > 3
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert notebook["cells"][0]["source"][0].startswith("# ")
    assert path.stat().st_size < 20_000


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_it_runs_and_its_page_needs_no_network(name, tmp_path):
    # In a process of its own: the client's event loop warns, and here a warning is an error.
    command = [sys.executable, str(ROOT / "docs" / "notebooks.py"), str(tmp_path), name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    page = (tmp_path / f"{name}.html").read_text("utf-8")
    assert len(page) < 4_000_000
    for part in PARTS[name]:
        assert re.search(part, page), part
    assert not re.search(r"""(?:src|href)=["']https?://""", page)
    assert "@import" not in page
