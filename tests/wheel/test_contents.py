"""The wheel holds `emma_viz` alone, with the programs and the bundled weights inside."""

import zipfile

from tests.wheel.conftest import ROOT


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
    assert wheel.stat().st_size <= 32_000_000


def test_the_bundled_files_are_at_most_32_mb():
    files = [path for path in (ROOT / "emma_viz/checkpoints/bundled").rglob("*") if path.is_file()]
    assert files
    assert sum(path.stat().st_size for path in files) <= 32_000_000
