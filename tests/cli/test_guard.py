"""How a command ends when the disk is full."""

import errno

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
    with pytest.raises(type(error)):
        guarded(raises(error), verbose=True)


@pytest.mark.parametrize("error", [ValueError("a mistake of ours"), PermissionError(errno.EACCES, "no")])
def test_other_errors_keep_their_traceback(error):
    with pytest.raises(type(error)):
        guarded(raises(error))
