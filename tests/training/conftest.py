"""Fixtures of the training tests."""

import pytest

from tests.records.conftest import llava  # noqa: F401
from training.pocket.stages import Work
from training.pocket.tokenizer import tabletop_tokenizer
from training.train import main


@pytest.fixture(scope="session")
def work(tmp_path_factory) -> Work:
    """A work folder in which the tiny recipe was trained."""
    folder = tmp_path_factory.mktemp("work")
    assert main(["joint", "--recipe", "tiny", "--work", str(folder)]) == 0
    return Work(folder, "tiny")


@pytest.fixture(scope="session")
def tokenizer():
    """Of the tabletop's English, from few scenes."""
    return tabletop_tokenizer(scenes=300)
