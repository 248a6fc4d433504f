"""Runs the programs that live beside the library (`training`, …), from a checkout or from an installed wheel."""

import importlib
import os
import runpy
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from emma_viz.errors import EmmaVizError

PROGRAMS = {
    "casebook": ("apps.casebook", "open a casebook: cases, their evidence, verdicts, in the browser"),
    "explore": ("apps.explorer", "open the explorer: models side by side, every layer, in the browser"),
    "probe": (
        "probes.run",
        "examine a checkpoint: what its image tokens hold, where it is lost, what answers depend on",
    ),
    "train": ("training.train", "train a model or a lens"),
}
"""Sub-command → (module, help). The module runs as `__main__` with the rest of the command line."""


def add_parsers(subparsers) -> None:
    """List the programs in the help of the command line."""
    for name, (_, help_text) in PROGRAMS.items():
        subparsers.add_parser(name, help=help_text, add_help=False)


def programs_root() -> Path:
    """The folder that holds the programs' packages: beside the package in a checkout, inside it in a wheel.

    Raises:
        EmmaVizError: neither place has them.
    """
    package = Path(__file__).resolve().parent.parent
    for root in (package.parent, package / "_programs"):
        if (root / "training" / "__init__.py").is_file() and (root / "probes" / "__init__.py").is_file():
            return root
    raise EmmaVizError(
        f"expected the programs (training, probes, apps) in {package / '_programs'} or beside {package}, found "
        "neither; reinstall emma-viz, or run from a checkout."
    )


def process(module: str, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment that run a module (`emma_viz`, …) in a process of its own.

    Modules are looked for where this process looks for them, and never in the current folder, which may have a
    `training` of the user's.
    """
    path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
    return [sys.executable, "-P", "-m", module, *argv], {**os.environ, "PYTHONPATH": path}


def run_program(name: str, argv: Sequence[str]) -> int:
    """Run program `name` with `argv`, as `python -m` would, and return its exit code."""
    module, _ = PROGRAMS[name]
    root = str(programs_root())
    if root not in sys.path:
        sys.path.insert(0, root)
    importlib.invalidate_caches()
    before, sys.argv = sys.argv, [f"emma-viz {name}", *argv]
    try:
        with warnings.catch_warnings():
            # Whoever has imported the program before, in this process, runs it all the same.
            warnings.filterwarnings("ignore", message=".*found in sys.modules", category=RuntimeWarning)
            runpy.run_module(module, run_name="__main__", alter_sys=False)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    finally:
        sys.argv = before
    return 0
