"""A family is one file: none imports another or has another's name in it."""

import ast
from pathlib import Path

import pytest

import emma_viz.models.families.table as families
import emma_viz.models.peers.table as peers
from emma_viz.models.families.table import OUR_FAMILIES
from emma_viz.models.peers.table import PEERS

FILES = {
    path: names
    for table, names in ((families, OUR_FAMILIES), (peers, PEERS))
    for path in sorted(Path(table.__file__).parent.glob("*.py"))
    if path.name != "table.py"
}


def _modules(names: dict) -> dict[str, str]:
    """The file of each family that there is, by the family's name."""
    values = {id(family): name for name, family in names.items()}
    table = families if names is OUR_FAMILIES else peers
    found = {}
    for node in ast.walk(ast.parse(Path(table.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            for each in node.names:
                name = values.get(id(getattr(table, each.name, None)))
                if name is not None:
                    found[name] = str(node.module)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_familys_file_names_another(path):
    names = FILES[path]
    modules = _modules(names)
    assert set(modules) == set(names), "every family has a file of its own"
    package = next(iter(modules.values())).rpartition(".")[0]
    others = {name: module for name, module in modules.items() if module != f"{package}.{path.stem}"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.module not in others.values(), f"{path.name} imports {node.module}"
        own = (
            f"{package}.{path.stem}" in modules.values()
        )  # what several are made of knows files, not families
        if own and isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert node.value not in others, f"{path.name} names the family {node.value}"
