"""How a command ends when the system refuses what it needs, and when it has a fault of its own."""

import errno
import os

import pytest
from safetensors import SafetensorError

from emma_viz.cli.guard import guarded
from emma_viz.cli.main import main
from emma_viz.errors import InputError


def raises(error):
    def run():
        raise error

    return run


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "model.json"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_line_and_not_a_traceback(error, capsys):
    assert guarded(raises(error), program="train") == 1
    said = capsys.readouterr().err
    assert said.startswith("train: error: the disk is full (")
    assert "make room and run the command again" in said
    assert said.count("\n") == 1
    assert guarded(raises(error), verbose=True) == 1
    assert "Traceback" in capsys.readouterr().err


REFUSED = (
    "ENAMETOOLONG",
    "ELOOP",
    "EACCES",
    "EPERM",
    "EROFS",
    "ENOTDIR",
    "EISDIR",
    "ENOENT",
    "EIO",
    "EMFILE",
)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("files", [(), ("a.png",), ("a.part", None, "a.png")])
def test_what_the_system_refuses_is_one_line_that_names_the_file(name, files, capsys):
    number = getattr(errno, name)
    assert guarded(raises(OSError(number, os.strerror(number), *files)), program="train") == 1
    said = capsys.readouterr().err
    assert said.startswith("train: error: ")
    assert os.strerror(number) in said
    assert all(file in said for file in files if file)
    assert said.count("\n") == 1


def test_what_the_system_refuses_a_library_is_one_line(capsys):
    refused = SafetensorError("Error while serializing: I/O error: Permission denied (os error 13)")
    assert guarded(raises(refused)) == 1
    said = capsys.readouterr().err
    assert "Permission denied" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("error", [ValueError("a mistake of ours"), OSError(errno.EBADF, "no")])
def test_other_errors_keep_their_traceback(error, capsys):
    assert guarded(raises(error)) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("verbose", [True, False])
def test_a_command_inside_another_shows_tracebacks_as_that_one_does(verbose, capsys):
    inner = lambda: guarded(raises(InputError("no")), program="train")  # noqa: E731
    assert guarded(inner, verbose=verbose) == 1
    assert ("Traceback" in capsys.readouterr().err) is verbose
    assert guarded(raises(InputError("no"))) == 1
    assert "Traceback" not in capsys.readouterr().err


PROGRAMS = {
    "explore": ["--study", "a", "--models", "b"],
    "casebook": ["--explorer", "nosuch"],
    "probe": ["nosuch", "--out", "report"],
    "train": ["lens", "--model", "nosuch", "--data", "nosuch", "--out", "a.lens"],
}


@pytest.mark.parametrize(("name", "words"), PROGRAMS.items(), ids=PROGRAMS)
def test_tracebacks_of_programs_are_shown_where_they_are_asked_for(
    name, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for leading in ([], ["-v"]):
        assert main([*leading, name, *words]) == 1
        assert ("Traceback" in capsys.readouterr().err) is bool(leading)
