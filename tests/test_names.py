"""A public name means one thing: it is defined in one module of all that ships."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("emma_viz", "apps", "probes", "training")
SUB_COMMAND = {"HELP", "add_arguments", "run"}
"""What every module of a sub-command has (`emma_viz.cli.commands`)."""
BACKEND = {
    *("selective_scan", "selective_scan_step", "ssd", "ssd_step", "causal_conv1d", "causal_conv1d_step"),
    *("gated_rms_norm", "linear"),
    "limits",
}
"""What backends of the kernels have, and the one function that chooses among them (`emma_viz.kernels.api`)."""
READER = {"BENCHMARK"}
"""What every reader of a benchmark has (`emma_viz.records.benchmarks.kinds`)."""
STEP = {"revision", "down_revision", "upgrade"}
"""What Alembic asks of every step of a casebook's migrations."""
PROGRAM = {"main", "logger"}
"""What every program and every module that logs has."""


def defined(tree: ast.Module) -> Iterator[str]:
    """The names that a module itself gives a meaning."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        for target in targets:
            yield from (part.id for part in ast.walk(target) if isinstance(part, ast.Name))


def test_no_public_name_stands_in_two_modules():
    places = defaultdict(set)
    for folder in SHIPPED:
        for path in (ROOT / folder).rglob("*.py"):
            for name in defined(ast.parse(path.read_text(encoding="utf-8"))):
                if not name.startswith("_"):
                    places[name].add(path.relative_to(ROOT).as_posix())
    assert len(places) > 1000
    shared = SUB_COMMAND | BACKEND | READER | STEP | PROGRAM
    twice = {name: found for name, found in places.items() if len(found) > 1 and name not in shared}
    assert not twice, "\n".join(f"{name}: {', '.join(sorted(found))}" for name, found in twice.items())
    for name in SUB_COMMAND:
        assert all(each.startswith("emma_viz/cli/commands/") for each in places[name]), places[name]
    for name in BACKEND:
        assert all(each.startswith("emma_viz/kernels/") for each in places[name]), places[name]
