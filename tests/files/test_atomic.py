"""Files are written whole or not at all, under any name that the file system takes."""

import signal
import subprocess
import sys

import pytest

from emma_viz.files.atomic import write_file, write_files


@pytest.mark.parametrize(
    "name", ["x" * 251 + ".png", "図" * 78 + ".png", "caf\udce9.png", "é" * 120 + ".png"]
)
def test_long_and_odd_names_are_written(tmp_path, name):
    write_file(tmp_path / name, lambda part: part.write_bytes(b"content"))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"content"]
    assert (tmp_path / name).is_file()


def _left_by_a_killed_process(folder) -> None:
    """Write a file in a process that is killed before the file has its name."""
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom emma_viz.files.atomic import write_file\n"
        "write_file(Path(sys.argv[1]) / 'a.txt', lambda part: os.kill(os.getpid(), signal.SIGKILL))"
    )
    ended = subprocess.run([sys.executable, "-c", code, folder], check=False)
    assert ended.returncode == -signal.SIGKILL


def test_what_a_killed_process_left_is_swept(tmp_path):
    _left_by_a_killed_process(tmp_path)
    (tmp_path / ".notes.part").write_text("no file of ours")
    assert len(list(tmp_path.iterdir())) == 2
    write_file(tmp_path / "b.txt", lambda part: part.write_bytes(b"content"))
    assert {path.name for path in tmp_path.iterdir()} == {"b.txt", ".notes.part"}


def test_what_another_process_is_writing_is_not_swept(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom emma_viz.files.atomic import write_file\n"
        "def write(part):\n    part.write_text('whole'); print('writing', flush=True); sys.stdin.readline()\n"
        "write_file(Path(sys.argv[1]) / 'a.txt', write)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "writing\n"
        write_file(tmp_path / "b.txt", lambda part: part.write_bytes(b"content"))
        other.communicate("\n")
    assert other.returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "b.txt"}


def test_a_folder_in_the_way_of_one_file_leaves_all_as_they_were(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("old")
    second.mkdir()
    with pytest.raises(IsADirectoryError, match="a folder is where"):
        write_files({path: lambda part: part.write_text("new") for path in (first, second)})
    assert first.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
