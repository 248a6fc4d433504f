"""Studies of earlier schema versions are read; those of later ones are named."""

import json
import shutil
from pathlib import Path

import pytest

from emma_viz.errors import StudyError
from emma_viz.study import open_study
from emma_viz.study.trace_files import VERSION

KEPT = Path(__file__).parent / "versions"
"""A study of each version, as it was written."""


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_a_study_of_each_version_is_read(version):
    trace = open_study(KEPT / str(version)).trace("photo")
    assert trace.answers == ("A cup.",)
    assert trace["resid_post", 2].shape == (1, 4, 5)
    assert trace.images[0].size == (8, 6)
    assert trace.notes == (() if version == 1 else ("a note",))
    assert not trace.labels
    assert not trace.interventions


def test_what_is_written_says_its_version(study, make_trace):
    study.add_trace(make_trace(batch=1), "photo")
    (path,) = study.path.glob("entries/photo/data-*/000000/trace.json")
    assert json.loads(path.read_text())["version"] == VERSION


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (VERSION + 1, "newer emma_viz"),
        (0, "schema version"),
        (True, "schema version"),
        ("2", "schema version"),
    ],
)
def test_another_version_is_named(tmp_path, version, message):
    shutil.copytree(KEPT / str(VERSION), tmp_path / "study")
    (path,) = (tmp_path / "study").glob("entries/photo/data-*/000000/trace.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": version}))
    with pytest.raises(StudyError, match=message):
        open_study(tmp_path / "study").trace("photo")
