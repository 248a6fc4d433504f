"""The notebooks run offline, from top to bottom, and what they are kept with is what they make."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from emma_viz.session.notebook import LARGEST_OUTPUT

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
PARTS = {
    "first-figure": ("<iframe", "emma-v1-photo:", "figure.html", "<img"),
    "new-checkpoint": ("ridge", "report.html", "<img"),
    "hallucination": ("right: False", "nats", "<iframe", "<img"),
    "own-probe": ("shuffled labels", "Overwriting|Writing", "<img"),
}
"""Name → what its page must show beside its text."""


def code_cells(path: Path) -> list:
    """The cells of a notebook that are run."""
    notebook = nbformat.read(path, as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell) -> list[tuple[str, ...]]:
    """What a cell left: of each output its type, and the types of what is in it."""
    return [(each.output_type, *sorted(each.get("data", ()))) for each in cell.outputs]


def test_every_notebook_is_looked_at_here():
    assert {path.stem for path in NOTEBOOKS} == set(PARTS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_with_small_outputs_that_say_nothing_of_a_machine(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert len(outputs) > 3
    for output in outputs:
        assert output.output_type != "error"
        assert len(json.dumps(output)) <= 1.1 * LARGEST_OUTPUT  # as JSON its quotes and lines are escaped
    text = path.read_text("utf-8")
    assert not re.search(r"/tmp/|/home/|/root/|/work/", text)
    assert len(text) < 2_500_000


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_its_page_needs_no_network(path, tmp_path):
    # In a process of its own: the client's event loop warns, and here a warning is an error.
    command = [sys.executable, str(ROOT / "docs" / "notebooks.py"), str(tmp_path), path.stem]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    page = (tmp_path / f"{path.stem}.html").read_text("utf-8")
    for part in PARTS[path.stem]:
        assert re.search(part, page), part
    assert not re.search(r"""(?:src|href)=["']https?://""", page)
    assert "@import" not in page
    made, kept = code_cells(tmp_path / path.name), code_cells(path)
    assert [(cell.source, kinds(cell)) for cell in made] == [(cell.source, kinds(cell)) for cell in kept]
