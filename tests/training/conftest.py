"""Fixtures of the training tests."""

import pytest

from tests.records.conftest import llava  # noqa: F401
from training.pocket.stages import Work
from training.train import main


@pytest.fixture(scope="session")
def work(tmp_path_factory) -> Work:
    """A work folder in which the tiny recipe was trained."""
    folder = tmp_path_factory.mktemp("work")
    assert main(["joint", "--recipe", "tiny", "--work", str(folder)]) == 0
    return Work(folder, "tiny")
