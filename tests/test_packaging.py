"""The wheel holds `emma_viz` alone, with the programs and the bundled weights inside, and runs without the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
        str(wheel),
    ]
    subprocess.run(command, check=True)
    return target


def _emma_viz(installed: Path, cwd: Path, *argv: str) -> subprocess.CompletedProcess:
    code = (
        "import emma_viz, sys; print(emma_viz.__file__, file=sys.stderr); "
        "from emma_viz.cli.main import entry; entry()"
    )
    environment = os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, *argv], cwd=cwd, env=environment, capture_output=True, text=True
    )


def test_one_top_level_name(wheel):
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"emma_viz"}


def test_no_tests_or_caches_in_the_wheel(wheel):
    for name in zipfile.ZipFile(wheel).namelist():
        assert "__pycache__" not in name
        assert "/tests/" not in name


def test_bundled_files_are_in_the_wheel(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for model in ("cobra-pocket", "emma-v1-pocket", "emma-v2-pocket", "emma-v1-pocket-nomff"):
        assert any(
            name.startswith(f"emma_viz/checkpoints/bundled/{model}/") and name.endswith(".safetensors")
            for name in names
        )
    assert sum(entry.file_size for entry in zipfile.ZipFile(wheel).infolist()) < 25 * 2**20


def test_the_bundled_files_are_at_most_25_mb():
    files = [path for path in (ROOT / "emma_viz/checkpoints/bundled").rglob("*") if path.is_file()]
    assert files
    assert sum(path.stat().st_size for path in files) <= 25_000_000


def test_the_library_runs_from_the_wheel(installed, tmp_path):
    done = _emma_viz(installed, tmp_path, "models")
    assert done.returncode == 0, done.stderr
    assert str(installed) in done.stderr
    assert "cobra-pocket" in done.stdout


def test_the_programs_run_from_the_wheel(installed, tmp_path):
    done = _emma_viz(installed, tmp_path, "train", "--help")
    assert done.returncode == 0, done.stderr
    assert "joint" in done.stdout
