"""A family is one file: none imports another or has another's name in it."""

import ast
import re
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
    found = sorted(_foreign(ast.parse(path.read_text(encoding="utf-8")), others))
    # What several are made of knows files, not families.
    own = f"{package}.{path.stem}" in modules.values()
    assert [each for each in found if own or each.startswith("imports")] == []


def _foreign(tree: ast.AST, others: dict[str, str]) -> set[str]:
    """Imports of other families' files, in any form, and their names in strings, also as words of longer ones; what
    documents is not looked at."""
    found, files = set(), {*others.values()}
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        imported = []
        if isinstance(node, ast.Import):
            imported = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported = [str(node.module), *(f"{node.module}.{each.name}" for each in node.names)]
        found |= {f"imports {each}" for each in imported if each in files}
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
            words = re.findall(r"[\w.-]+", node.value)
            found |= {f"names the family {each}" for each in words if each in others}
    return found


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import pkg.one", {"imports pkg.one"}),
        ("import pkg.one as other", {"imports pkg.one"}),
        ("from pkg import one", {"imports pkg.one"}),
        ("from pkg.one import ONE", {"imports pkg.one"}),
        ("import pkg.layout", set()),
        ("x = 'one'", {"names the family one"}),
        ("x = 'as the family one does'", {"names the family one"}),
        ("x = f'{y} of one, and {z}'", {"names the family one"}),
        ("x = 'ones and one-two'", set()),
        ("def f():\n    'What one has.'", set()),
    ],
)
def test_every_form_of_a_foreign_name_is_seen(code, found):
    assert _foreign(ast.parse(code), {"one": "pkg.one"}) == found
