"""An environment in which the wheel is installed with the lowest or the newest versions that it allows."""

import os
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from release.building import Built
from release.failing import ReleaseError, run, tool

UV = tool("uv")
Versions = Literal["lowest", "newest"]
RESOLUTION: dict[Versions, str] = {"lowest": "lowest-direct", "newest": "highest"}
"""What uv calls it: the lowest versions of what we require ourselves; what those require is as new as they allow."""
EXTRAS = ("casebook", "export", "gradio", "train")
"""What is installed beside what is always required; `cuda` needs a GPU's compiler, the others are for development."""
TOOLS = ("pytest", "pytest-xdist", "hypothesis", "beartype", "hatchling")
"""What the tests need of the extra `dev`, as new as the rest allows."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the wheel, and what is installed in it."""

    folder: Path
    pins: Path
    """The versions that were chosen, a requirement a line."""

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"


def resolve(source: Path, versions: Versions, python: str, pins: Path) -> None:
    """Choose the versions, of which each must have a wheel for this Python.

    Args:
        source: the files of the commit.
        versions: which.
        python: a version or a path.
        pins: where they are written.

    Raises:
        ReleaseError: there is no such Python, or nothing fits together.
    """
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    run(
        *(UV, "pip", "compile", source / "pyproject.toml", *extras, "--python", python),
        *("--resolution", RESOLUTION[versions], "--only-binary", ":all:"),
        *("--no-annotate", "--no-header", "--output-file", pins),
    )


def install(built: Built, source: Path, versions: Versions, python: str, folder: Path) -> Environment:
    """Make the environment anew.

    Args:
        built: whose wheel is installed.
        source: the files of the commit.
        versions: which.
        python: a version or a path.
        folder: where it is made; what is there is removed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    made = Environment(folder / "venv", folder / "pins.txt")
    resolve(source, versions, python, made.pins)
    run(UV, "venv", "--python", python, made.folder)
    into = (UV, "pip", "install", "--python", made.python, "--only-binary", ":all:")
    run(*into, "--requirement", made.pins)
    run(*into, "--no-deps", built.wheel)
    run(UV, "pip", "check", "--python", made.python)
    return made


def add_tools(made: Environment, source: Path) -> None:
    """Install what the tests need, at the bounds of the extra `dev`, and pip, without changing what is there."""
    with (source / "pyproject.toml").open("rb") as file:
        dev = tomllib.load(file)["project"]["optional-dependencies"]["dev"]
    wanted = [each for each in dev if each.split(">")[0] in TOOLS]
    if len(wanted) != len(TOOLS):
        raise ReleaseError(f"expected {', '.join(TOOLS)} in the extra dev, got {', '.join(wanted)}.")
    run(UV, "pip", "install", "--python", made.python, "--constraint", made.pins, "pip", *wanted)


def try_out(made: Environment, built: Built, source: Path, tests: list[str]) -> None:
    """Run tests in the environment: those of the wheel, or what is given for pytest.

    Raises:
        ReleaseError: one fails.
    """
    command = [
        made.python,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        *(tests or ["tests/wheel", f"--wheel={built.wheel}"]),
    ]
    surroundings = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))
    }
    if subprocess.run([*map(str, command)], cwd=source, env=surroundings).returncode:
        raise ReleaseError(f"the tests fail with the versions of {made.pins}.")
