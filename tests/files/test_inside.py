"""Names found in files stand for regular files inside the folder, or for nothing."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emma_viz.errors import StudyError
from emma_viz.files.inside import inside, require_bare


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            ".",
            "..",
            "../x",
            "/etc/passwd",
            "a/b",
            "a\\b",
            ".hidden",
            "C:x",
            "x\0",
            "x\n",
            "\u202ex",
            "\udce9",
        ),
        *("x" * 256, "é" * 128, None, 3, ["a"]),
    ],
)
def test_what_is_no_bare_name_is_refused(tmp_path, name):
    with pytest.raises(StudyError, match="bare name"):
        inside(tmp_path, name, error=StudyError)


@given(st.text(min_size=1, max_size=80))
def test_a_bare_name_never_leads_out_of_its_folder(name):
    from pathlib import Path

    try:
        require_bare(name, where="it", error=StudyError)
    except StudyError:
        return
    assert (Path("/folder") / name).parent == Path("/folder")


def test_what_lies_inside_is_given_and_so_is_what_is_not_there_yet(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.png").touch()
    assert inside(tmp_path, "a", "b.png", error=StudyError) == tmp_path / "a" / "b.png"
    assert inside(tmp_path, "a", "c.png", error=StudyError) == tmp_path / "a" / "c.png"
    assert inside(tmp_path, "a", error=StudyError, kind="folder") == tmp_path / "a"


@pytest.mark.parametrize("place", ["file", "folder", "dangling"])
def test_links_that_lead_out_are_refused(tmp_path, place):
    study, other = tmp_path / "study", tmp_path / "other"
    study.mkdir(), other.mkdir()
    (other / "b.png").touch()
    if place == "folder":
        (study / "a").symlink_to(other)
        names = ("a", "b.png")
    else:
        (study / "b.png").symlink_to(other / ("b.png" if place == "file" else "nothing"))
        names = ("b.png",)
    with pytest.raises(StudyError, match="link that leads out"):
        inside(study, *names, error=StudyError)
    assert inside(study, *names, error=StudyError, within=tmp_path)


def test_a_folder_a_device_and_a_loop_are_no_files(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").touch()
    for name in ("a", "zero", "loop"):
        with pytest.raises(StudyError):
            inside(tmp_path, name, error=StudyError)
    with pytest.raises(StudyError, match="folder"):
        inside(tmp_path, "file", error=StudyError, kind="folder")


def test_a_file_that_another_process_makes_and_removes_is_no_fault(tmp_path):
    path, done = tmp_path / "a.lock", threading.Event()

    def blink() -> None:
        while not done.is_set():
            path.touch()
            path.unlink()

    other = threading.Thread(target=blink)
    other.start()
    try:
        for _ in range(3000):
            assert inside(tmp_path, "a.lock", error=StudyError, links=False) == path
    finally:
        done.set()
        other.join()
