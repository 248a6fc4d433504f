"""The cookbook does what it says, from top to bottom."""

import json
import re
from pathlib import Path

import matplotlib
import pytest

from emma_viz.capture.sites import split_site
from emma_viz.checkpoints.run_config import read_description
from emma_viz.evidence.intervention import require_editable
from emma_viz.models.families.cobra import cobra_3b

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cookbook.md"


def blocks(language: str) -> list[str]:
    """The page's blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_every_snippet_runs_after_those_above_it(photos, tmp_path, monkeypatch, unchecked):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    (tmp_path / "photo.jpg").write_bytes(photos[0].read_bytes())
    found = {}
    snippets = blocks("python")
    assert len(snippets) == len(re.findall(r"^## \d+\. ", PAGE.read_text("utf-8"), re.MULTILINE)) == 12
    for number, snippet in enumerate(snippets, start=1):
        exec(compile(snippet, f"snippet {number}", "exec"), found)
    assert {"figure.pdf", "figure.pdf.json", "mine.png", "study"} >= {
        path.name for path in tmp_path.iterdir()
    } - {"photo.jpg"}
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
    assert found["last"].isfinite().all()
    assert found["inside"].shape == (len(found["tokens"]), 112)
    assert len(found["tokens"]) > 9
    assert found["accuracy"] > 0.6
    assert found["changed"].interventions
    assert found["residual"].shape == (2, 1, 4, 32)
    assert found["text"].layers == (0, 11)
    assert len(found["text"].answers) == 2
    assert found["ids"]["delta", 3].shape[:2] == (1, 3)
    assert [len(each) for each in found["readings"]] == [3, 3]
    assert found["found"].values.shape == (16, 16)


def test_the_hooks_that_the_page_changes_can_be_changed():
    names = re.findall(r'intervene\(model, \{"([^"]+)"', PAGE.read_text("utf-8"))
    assert len(names) == 2
    for name in names:
        require_editable(split_site(name)[0])


def test_the_config_of_the_page_is_that_of_a_cobra():
    (text,) = blocks("json")
    described, preset = read_description(json.loads(text), where="the page"), cobra_3b()
    for part in ("vision", "projector", "llm", "family"):
        assert getattr(described, part) == getattr(preset, part)
