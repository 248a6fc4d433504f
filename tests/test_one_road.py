"""One road: images become states, and states pixels, in `emma_viz.session.road` alone."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROAD = "emma_viz/session/road.py"
RECORD, DECODE = "record", "decode"


def calls(path: Path) -> set[str]:
    """Which of `record` and `decode` a module calls by its own name, as it imports them from this package."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("emma_viz")
        for alias in node.names
        if alias.name in (RECORD, DECODE)
    }
    return {
        named[node.func.id]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in named
    }


def test_what_ships_records_and_decodes_on_the_road_alone():
    found = {
        path.relative_to(ROOT).as_posix(): calls(path)
        for folder in ("emma_viz", "apps", "probes", "training")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert found[ROAD] == {RECORD, DECODE}
    recording = {
        name for name, called in found.items() if RECORD in called and not name.startswith("probes/")
    }
    assert recording == {ROAD}, "take emma_viz.session.road.ask"
    both = {name for name, called in found.items() if called == {RECORD, DECODE}}
    assert both == {ROAD}
