"""Where a result comes from."""

import subprocess
from pathlib import Path


def commit() -> str:
    """The commit of the checkout that runs, and whether its files were changed since; or why there is none."""
    root = Path(__file__).resolve().parents[2]
    try:
        # An installed package may lie in somebody else's checkout, whose commit says nothing about it.
        if not (root / ".git").exists():
            raise FileNotFoundError(root / ".git")
        name, changed = (
            subprocess.run(
                ["git", "-C", str(root), *what], capture_output=True, text=True, check=True
            ).stdout.strip()
            for what in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown: not in a git checkout"
    return f"{name} with changes" if changed else name
