"""The examples run, and leave what they promise."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def _example(name: str):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]


def test_every_example_is_run_here():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"paper_figure", "capture_once", "two_sites"}


@pytest.mark.slow
def test_paper_figure(tmp_path):
    _example("paper_figure")(str(tmp_path / "figure.pdf"))
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "figure.pdf.json").exists()


@pytest.mark.slow
def test_capture_once(tmp_path):
    _example("capture_once")(str(tmp_path / "study"))
    assert {path.name for path in (tmp_path / "study").glob("*.png")} == {"distance.png", "error.png"}


@pytest.mark.slow
def test_two_sites(tmp_path, capsys):
    _example("two_sites")(str(tmp_path / "sites.png"), 16)
    assert {path.name for path in tmp_path.iterdir()} == {"sites-resid_post.png", "sites-mixer_out.png"}
    assert "mixer_out: held-out R²" in capsys.readouterr().out
