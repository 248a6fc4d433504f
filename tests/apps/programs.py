"""Programs that are not Python's and that these tests drive: a reason to skip for a developer, a failure in CI."""

import os
import shutil
from pathlib import Path

import pytest

MEND = "run scripts/setup-browser"


def program(*names: str) -> str:
    """Path of the first of these programs that is installed."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is not None:
        return found
    message = f"this test drives {names[0]}, which is not installed: {MEND}"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def library(path: str) -> Path:
    """A file of a library that scripts/setup-browser brought from npm."""
    found = Path(__file__).resolve().parents[2] / ".node" / path
    if found.is_file():
        return found
    message = f"this test needs {path}, which is not installed: {MEND}"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
