"""Drawing scenes to the disk: what happens when the disk is full, and when the program is killed."""

import errno
import os
import subprocess
import sys
import time

import psutil
import pytest

from emma_viz.errors import TrainingError
from emma_viz.models.backbones import pocket_conv_128
from emma_viz.models.towers.pocket import PocketEncoder
from training.loop.disk_arrays import new_array
from training.pocket.encoder import encoder_features
from training.pocket.scenes import drawn_scenes, scene_arrays

PATIENCE = 60.0
"""Seconds to wait for processes at most."""


@pytest.fixture
def full(monkeypatch):
    """A disk that has no room."""

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)


def test_a_full_disk_is_said_before_scenes_are_written(tmp_path, full):
    with pytest.raises(TrainingError, match=r"images.npy needs 0.10 MB.*No space left on device. Make room"):
        scene_arrays("val", 2, tmp_path, workers=1)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_full_disk_is_said_before_features_are_written(tmp_path, full):
    encoder = PocketEncoder(pocket_conv_128().towers[0]).eval()
    with pytest.raises(TrainingError, match=r"val.tmp needs 0.05 MB.*No space left on device. Make room"):
        encoder_features(encoder, drawn_scenes("val", 1), tmp_path / "val.npy")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_cannot_reserve_is_written_to(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    assert scene_arrays("val", 2, tmp_path, workers=1).images.any()


def test_the_space_of_an_array_is_reserved(tmp_path):
    array = new_array(tmp_path / "a.npy", "f4", (1000, 1000))
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= array.nbytes


@pytest.mark.slow
def test_the_processes_that_draw_end_when_their_program_is_killed(tmp_path):
    code = "import sys, pathlib; from training.pocket.scenes import scene_arrays as draw; "
    code += "draw('train', 20_000, pathlib.Path(sys.argv[1]))"
    program = subprocess.Popen([sys.executable, "-c", code, tmp_path], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + PATIENCE
        workers = []
        while len(workers) < 2 and time.monotonic() < end:
            time.sleep(0.1)
            workers = psutil.Process(program.pid).children()
        assert len(workers) == 2
    finally:
        program.kill()
        program.wait()
    _, alive = psutil.wait_procs(workers, timeout=PATIENCE)
    for worker in alive:
        worker.kill()
    assert alive == []
