"""The wheel, and an environment in which it is installed, with the checkout out of reach."""

import os
import site
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from emma_viz.kernels.numba.scan import scan_forward

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel."""

    python: Path
    package: Path
    """The installed `emma_viz`, which cannot be written to."""
    home: Path
    """A home folder of its own, for caches."""

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that knows nothing of the checkout, adds no compiled Python to the package, and finds the
        kernels that this process's tests compile: they serve every copy of the same sources."""
        return {**self.of_a_first_run, "NUMBA_CACHE_DIR": str(Path(scan_forward._cache.cache_path).parent)}

    @property
    def of_a_first_run(self) -> dict[str, str]:
        """The same with nothing compiled yet: the home folder is new."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "NUMBA"))}
        own = {"HOME": str(self.home), "XDG_CACHE_HOME": str(self.home / "cache"), "HF_HUB_OFFLINE": "1"}
        return {**kept, **own, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}

    def command(self, *argv: str | Path) -> list[str]:
        """The command line of `emma-viz …`, by its console script."""
        return [str(self.python.with_name("emma-viz")), *map(str, argv)]

    def python_runs(self, *argv: str | Path, cwd: Path) -> subprocess.CompletedProcess:
        """What the environment's Python did."""
        return _run([str(self.python), *map(str, argv)], cwd, self.environment)

    def __call__(self, *argv: str | Path, cwd: Path, first: bool = False) -> subprocess.CompletedProcess:
        """What `emma-viz …` did."""
        return _run(self.command(*argv), cwd, self.of_a_first_run if first else self.environment)

    def files(self) -> dict[Path, tuple[int, int]]:
        """Size and time of everything in the package."""
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in self.package.rglob("*")}


def _run(command: list[str], cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def pytest_addoption(parser):
    parser.addoption(
        "--wheel", type=Path, help="the wheel to test; without it, one is built of this checkout"
    )


@pytest.fixture(scope="session")
def wheel(request, tmp_path_factory) -> Path:
    """The wheel of this checkout, or the one that is to be tested."""
    given = request.config.getoption("--wheel", default=None)
    return given.resolve() if given else build_wheel(tmp_path_factory.mktemp("wheel"))


def build_wheel(out: Path, **how) -> Path:
    """Build it into an empty folder; `how` is of `subprocess.run`."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, **how)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """The wheel in an environment that finds the dependencies of this one, and not the checkout.

    A `.pth` file names the folders of the dependencies. Those that lie in such a folder are not read, so that the
    editable install of the checkout, which is one of them, is without effect.
    """
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(python), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True)
    (place,) = (folder / "venv").glob("lib/python*/site-packages")
    dependencies = [each for each in site.getsitepackages() if Path(each).is_dir()]
    (place / "dependencies.pth").write_text("\n".join(dependencies) + "\n")
    (folder / "home").mkdir()
    found = Installed(python, place / "emma_viz", folder / "home")
    inside = [found.package, *found.package.rglob("*")]
    for path in inside:
        path.chmod(path.stat().st_mode & ~0o222)
    yield found
    for path in inside:
        path.chmod(path.stat().st_mode | 0o200)
