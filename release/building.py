"""An sdist and a wheel of a commit, the same bytes wherever and whenever they are built."""

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from release.failing import ReleaseError, run


@dataclass(frozen=True)
class Built:
    """What a build made."""

    sdist: Path
    wheel: Path
    """Built from the sdist."""
    epoch: int
    """The time that all files in both have: the commit's, in seconds since 1970."""

    @property
    def files(self) -> tuple[Path, Path]:
        """Both."""
        return self.sdist, self.wheel


def export(root: Path, target: Path) -> None:
    """Write the files of the commit that is checked out, and nothing else, into a new folder.

    Raises:
        ReleaseError: a file that git knows was changed and not committed.
    """
    if changed := run("git", "status", "--porcelain", "--untracked-files=no", cwd=root).strip():
        raise ReleaseError(f"commit first; these files are changed:\n{changed}")
    target.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=root, check=True, capture_output=True)
    subprocess.run(["tar", "-x", "-C", str(target)], input=archive.stdout, check=True)


def commit_time(root: Path) -> int:
    """When the commit was made, in seconds since 1970."""
    return int(run("git", "log", "-1", "--format=%ct", cwd=root))


def build(source: Path, out: Path, *, epoch: int, umask: int = 0o022, zone: str = "UTC") -> Built:
    """Build both from the files of a commit; a wheel from the sdist, which so is shown to be whole.

    Args:
        source: the files.
        out: where the results go; a new folder.
        epoch: the time that is written into them.
        umask: of the processes that build.
        zone: their time zone.
    """
    surroundings = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "TZ": zone}
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, env=surroundings, umask=umask, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"the build failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return Built(sdist, wheel, epoch)


def sha256(path: Path) -> str:
    """The digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_same(one: Built, other: Built) -> None:
    """Refuse two builds that differ.

    Raises:
        ReleaseError: they do.
    """
    for first, second in zip(one.files, other.files, strict=True):
        if sha256(first) != sha256(second):
            raise ReleaseError(
                f"two builds of one commit differ: {first} and {second}; diffoscope says where."
            )
