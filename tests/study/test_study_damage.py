"""Folders that are damaged, of another version or no study at all, and disks that are full."""

import json
import os
import resource
import zipfile
from contextlib import ExitStack, suppress

import numpy as np
import pytest

from emma_viz.errors import StudyError
from emma_viz.study import open_study
from emma_viz.study.opening import made_or_removed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"format": "emma-viz study", "version": 2}, "newer emma_viz.*version is 2, this one reads up to 1"),
        (
            {"format": "emma-viz study", "version": 0},
            "expected a schema version from 1 to 1 as 'version', got 0",
        ),
        ({"format": "something else", "version": 1}, "does not say that this is a study"),
        ({"version": 1}, "does not say that this is a study"),
    ],
)
def test_another_schema_version_is_a_clear_error(tmp_path, content, message):
    (tmp_path / "study.json").write_text(json.dumps(content))
    with pytest.raises(StudyError, match=message):
        open_study(tmp_path, create=True)


@pytest.mark.parametrize("content", ["", "[]", "{", "\xff"])
def test_a_damaged_study_file_is_a_clear_error(tmp_path, content):
    (tmp_path / "study.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(StudyError, match=r"study\.json"):
        open_study(tmp_path)


def test_a_folder_of_something_else_is_not_taken_for_a_study(tmp_path):
    with pytest.raises(StudyError, match="no study"):
        open_study(tmp_path / "nowhere")
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as packed:
        packed.writestr("study/study.json", "{}")
    with pytest.raises(StudyError, match="is a zip file, and a study a folder; unpack it"):
        open_study(tmp_path / "packed.zip")
    (tmp_path / "packed.zip").unlink()
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(StudyError, match=r"not empty.*thesis\.tex"):
        open_study(tmp_path, create=True)
    with pytest.raises(StudyError, match=r"thesis\.tex"):
        open_study(tmp_path / "thesis.tex", create=True)
    assert not (tmp_path / "study.json").exists()


def test_what_lies_in_a_folder_that_is_refused_stays(tmp_path):
    for name in ("images/a.jpg", "images/train/b.jpg", "labels.json", ".locks/mine", "entries/mine"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StudyError, match="not empty"):
        open_study(tmp_path, create=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_study_in_which_another_has_begun_to_write_stays(tmp_path, make_trace):
    path = tmp_path / "study"
    with ExitStack() as theirs:
        with suppress(KeyboardInterrupt), made_or_removed(path):
            writer = theirs.enter_context(open_study(path, create=True).writer("theirs"))
            raise KeyboardInterrupt
        writer.append_batch(make_trace())
    assert open_study(path).entry("theirs").n_samples


def test_a_writer_whose_study_was_removed_says_so_at_once(tmp_path):
    with suppress(KeyboardInterrupt), made_or_removed(tmp_path / "study"):
        theirs = open_study(tmp_path / "study", create=True).writer("theirs")
        raise KeyboardInterrupt
    with pytest.raises(StudyError, match="no study any more"), theirs:
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("pattern", "read"),
    [
        ("images/*.png", lambda study: study.trace("photo").images[0]),
        ("**/maps*.safetensors", lambda study: study.load_arrays("photo", "maps")),
        ("**/tensors.safetensors", lambda study: study.trace("photo")["resid_post"]),
        ("**/trace.json", lambda study: study.trace("photo")),
        ("entries/**/entry.json", lambda study: study.entries),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_damaged_and_missing_files_are_named(study, make_trace, pattern, read):
    study.add_trace(make_trace(), "photo")
    study.save_arrays("photo", "maps", {"a": np.zeros(9)}, {})
    (file,) = study.path.glob(pattern)
    read(study)
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(StudyError, match=file.name):
        read(study)
    file.unlink()
    with pytest.raises(StudyError, match="photo" if file.name == "entry.json" else file.name):
        open_study(study.path).entry("photo") and read(study)


def test_a_full_disk_is_an_error_with_the_path_and_leaves_nothing(study, make_trace, assert_same):
    kept = make_trace(seed=1)
    study.add_trace(kept, "kept")
    before = sorted((study.path / "entries").rglob("*"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(StudyError, match=r"study.* cannot be written"):
            study.add_trace(make_trace(seed=2, batch=4), "too-large")
        with pytest.raises(StudyError, match=r"study.* cannot be written"):
            study.save_arrays("kept", "maps", {"a": np.zeros(10_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted((study.path / "entries").rglob("*")) == before
    assert_same(study.trace("kept"), kept)
    study.add_trace(make_trace(seed=2, batch=4), "too-large")


def test_a_place_that_cannot_be_written_to_is_an_error_with_the_path(tmp_path, make_trace):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StudyError, match="file/study"):
        open_study(blocked / "study", create=True)
    study = open_study(tmp_path / "study", create=True)
    (study.path / "entries").write_text("")
    with pytest.raises(StudyError, match=r"study/entries"):
        study.add_trace(make_trace(), "photo")
    with pytest.raises(StudyError, match=r"study/entries"):
        study.add_trace(make_trace())
