"""The wheel holds `emma_viz` alone, with the programs and the bundled weights inside."""

import calendar
import hashlib
import os
import zipfile

import pytest

from tests.wheel.conftest import ROOT, build_wheel


def test_one_top_level_name(wheel):
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"emma_viz"}


def test_no_tests_or_caches_in_the_wheel(wheel):
    for name in zipfile.ZipFile(wheel).namelist():
        assert "__pycache__" not in name
        assert "/tests/" not in name


def test_bundled_files_are_in_the_wheel(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    bundled = ROOT / "emma_viz/checkpoints/bundled"
    files = [path.relative_to(ROOT).as_posix() for path in bundled.rglob("*") if path.is_file()]
    assert {*files} - {*names} == {
        name for name in files if "/text-" in name or "/emma-v1-pocket-nomff/" in name
    }
    assert {path.name for path in bundled.iterdir() if path.is_dir()} == {
        "cobra-photo", "emma-v1-photo", "cobra-pocket", "emma-v1-pocket", "emma-v2-pocket", "emma-v1-pocket-nomff",
        "llava-pocket",
    }  # fmt: skip
    assert wheel.stat().st_size <= 55_000_000


@pytest.mark.slow
def test_a_second_build_has_the_same_bytes(wheel, tmp_path):
    # Neither the time zone nor the rights of new files may be seen in it.
    when = calendar.timegm(zipfile.ZipFile(wheel).infolist()[0].date_time)
    surroundings = {**os.environ, "TZ": "Pacific/Auckland", "SOURCE_DATE_EPOCH": str(when)}
    again = build_wheel(tmp_path, umask=0o077, env=surroundings)
    assert again.name == wheel.name
    one, other = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (wheel, again))
    assert one == other


def test_the_pocket_family_has_at_most_32_mb():
    files = [
        path
        for path in (ROOT / "emma_viz/checkpoints/bundled").rglob("*")
        if path.is_file() and "pocket" in str(path)
    ]
    assert files
    assert sum(path.stat().st_size for path in files) <= 32_000_000
