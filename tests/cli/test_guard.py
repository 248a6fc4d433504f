"""How a command ends when the system refuses what it needs, and when it has a fault of its own."""

import errno
import os

import pytest
from safetensors import SafetensorError

from emma_viz.cli.guard import guarded


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
