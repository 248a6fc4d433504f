"""Fixtures of the training tests."""

import pytest

from tests.training.llava_set import LlavaSet, write_llava_set
from training.stages import Work
from training.train import main


@pytest.fixture(scope="session")
def llava(tmp_path_factory) -> LlavaSet:
    return write_llava_set(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="session")
def work(tmp_path_factory) -> Work:
    """A work folder in which the tiny recipe was trained."""
    folder = tmp_path_factory.mktemp("work")
    assert main(["joint", "--recipe", "tiny", "--work", str(folder)]) == 0
    return Work(folder, "tiny")
