"""Whether a place can be written to is found out before the work, and leaves nothing behind."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from emma_viz.errors import StudyError
from emma_viz.files.atomic import write_file
from emma_viz.files.room import require_writable

MAN = "あ"
"""Three bytes in a file's name."""


@pytest.fixture
def open_folder():
    """A folder that everybody may enter, and the rights of a user who is not root, for whom all may be written."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    root = os.geteuid() == 0
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        shutil.rmtree(folder)


def become_nobody() -> None:
    if os.geteuid() == 0:
        os.seteuid(65534)


@pytest.mark.parametrize(
    "name", ["fig.png", MAN * 80 + ".png", "x" * 251 + ".png", "existing.png", "./fig.png"]
)
def test_what_can_be_written_passes_and_leaves_nothing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "existing.png").write_bytes(b"before")
    require_writable(name)
    require_writable(tmp_path / name, beside=["fig.png.json"])
    assert [path.name for path in tmp_path.iterdir()] == ["existing.png"]
    assert (tmp_path / "existing.png").read_bytes() == b"before"


def test_a_file_that_is_removed_while_it_is_looked_at_is_in_nobodys_way(tmp_path, monkeypatch):
    target, look = tmp_path / "fig.png", Path.lstat

    def looked(path):
        found = look(path)
        if path == target:
            target.unlink()  # as another process may
        return found

    target.write_bytes(b"before")
    monkeypatch.setattr(Path, "lstat", looked)
    require_writable(target)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []  # it was removed in between, and nothing was left in its place


def test_a_folder_may_be_missing_with_those_above_it(tmp_path):
    require_writable(tmp_path / "a" / "b" / "study", folder=True)
    require_writable(tmp_path, folder=True)
    require_writable(tmp_path / "a" / "b" / "x.lens", parents=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("here", {}, "is a folder"),
        ("nowhere/fig.png", {}, "does not exist"),
        ("file/fig.png", {}, "to be a folder"),
        ("file", {"folder": True}, "to be a folder"),
        ("file/study", {"folder": True}, "to be a folder"),
        (MAN * 85 + "x", {}, "at most 255 bytes, got 256"),
        ("x" * 300, {"folder": True}, "at most 255 bytes"),
        ("x" * 300 + "/fig.png", {}, "at most 255 bytes"),
        ("fig.png", {"beside": ["x" * 251 + ".json"]}, "at most 255 bytes"),
        ("fig.png", {"beside": ["here"]}, "is a folder"),
        ("/".join(["x" * 200] * 30), {"folder": True}, "cannot be written to"),
        ("a\0b", {}, "cannot be written to"),
        ("pipe", {}, "pipe or device"),
        ("/dev/null", {}, "pipe or device"),
        ("gone/fig.png", {}, "to be a folder"),
        ("gone/study", {"folder": True}, "to be a folder"),
    ],
)
def test_what_cannot_be_written_is_refused_in_a_sentence(name, options, says, tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    before = set(tmp_path.rglob("*"))
    with pytest.raises(StudyError, match=says):
        require_writable(tmp_path / name, error=StudyError, **options)
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("options", [{}, {"folder": True}])
def test_a_folder_without_rights_is_named(options, open_folder):
    (open_folder / "closed").mkdir()
    (open_folder / "closed").chmod(0o555)
    become_nobody()
    with pytest.raises(StudyError, match=r"closed cannot be written to \(Permission denied\)"):
        require_writable(open_folder / "closed" / "fig.png", error=StudyError, **options)


def test_a_folder_that_cannot_be_looked_into_is_named(open_folder):
    (open_folder / "closed").mkdir()
    (open_folder / "closed").chmod(0o000)
    become_nobody()
    with pytest.raises(StudyError, match=r"cannot be written to \(Permission denied\)"):
        require_writable(open_folder / "closed" / "fig.png", error=StudyError)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of somebody else")
def test_somebody_elses_file_in_a_shared_folder_is_not_replaced(open_folder):
    (open_folder / "shared").mkdir()
    (open_folder / "shared" / "fig.png").write_bytes(b"theirs")
    (open_folder / "shared").chmod(0o1777)
    become_nobody()
    with pytest.raises(StudyError, match="belongs to somebody else"):
        require_writable(open_folder / "shared" / "fig.png", error=StudyError)


@pytest.mark.parametrize("name", ["a", "report.html", "n" * 200])
def test_what_a_kill_leaves_of_a_trial_is_swept_by_the_next_write(tmp_path, monkeypatch, name):
    with monkeypatch.context() as killed:
        killed.setattr("emma_viz.files.room.os.unlink", lambda path: None)  # it did not come to that
        require_writable(tmp_path / name)
    (left,) = tmp_path.iterdir()
    assert len(left.name) >= len(name), "a name as long as the one that is meant"
    write_file(tmp_path / name, lambda part: part.write_text("x"))
    assert [each.name for each in tmp_path.iterdir()] == [name]
