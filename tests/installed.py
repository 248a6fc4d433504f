"""Packages as pip leaves them, for what reads their entry points."""

import sys
from pathlib import Path

import pytest


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, code: str, group: str, points: str):
    """A package of one module with entry points, in a folder that is then searched for modules.

    Args:
        folder: where it lies.
        monkeypatch: takes it away again.
        module: its name, without `.py`.
        code: what it says.
        group: of the entry points.
        points: the lines of them, `name = module:object`.
    """
    (folder / f"{module}.py").write_text(code)
    facts = folder / f"{module}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[{group}]\n{points}\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, module, raising=False)
