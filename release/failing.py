"""How a release ends that cannot go on, and the commands that it runs."""

import subprocess
import sys
from pathlib import Path


class ReleaseError(Exception):
    """A check that did not pass, in a sentence."""


def tool(name: str) -> Path:
    """A program that was installed beside this Python."""
    return Path(sys.executable).with_name(name)


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """What a command prints.

    Raises:
        ReleaseError: it fails; the message has what it said.
    """
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(
            f"{' '.join(map(str, command))[:200]} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
    return done.stdout
