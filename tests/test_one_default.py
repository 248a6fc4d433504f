"""An option's default stands in its dataclass alone."""

import ast
from dataclasses import MISSING, fields
from pathlib import Path

from emma_viz.lens.fitting.tuned_settings import TunedSettings
from emma_viz.session.options import Asking, Keeping, LensRecipe
from probes.examination import Plan

ROOT = Path(__file__).resolve().parent.parent
OWNERS = (Asking, Keeping, LensRecipe, TunedSettings, Plan)
COMMANDS = ("emma_viz/session", "emma_viz/cli", "apps", "probes")
"""Where a command line's values pass through."""


def spelled_out(tree: ast.Module) -> list[tuple[str, object, int]]:
    """(option, default, line) where a literal is the default of a command's option or of a function's argument."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            plain = [*node.args.posonlyargs, *node.args.args]
            pairs = zip(plain[len(plain) - len(node.args.defaults) :], node.args.defaults, strict=True)
            pairs = [*pairs, *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)]
            found += [
                (arg.arg, each.value, each.lineno) for arg, each in pairs if isinstance(each, ast.Constant)
            ]
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
            flags = [each.value for each in node.args if isinstance(each, ast.Constant)]
            found += [
                (str(flags[-1]).lstrip("-").replace("-", "_"), each.value.value, each.value.lineno)
                for each in node.keywords
                if each.arg == "default" and isinstance(each.value, ast.Constant) and flags
            ]
    return found


def test_no_default_is_spelled_out_a_second_time():
    known = {
        (each.name, each.default)
        for owner in OWNERS
        for each in fields(owner)
        if each.default is not MISSING and each.default is not None and not isinstance(each.default, bool)
    }
    assert ("prompt", Asking.prompt) in known
    twice = [
        f"{path.relative_to(ROOT)}:{line}: {name} = {value!r}"
        for folder in COMMANDS
        for path in (ROOT / folder).rglob("*.py")
        for name, value, line in spelled_out(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(value, str | int | float) and not isinstance(value, bool) and (name, value) in known
    ]
    assert not twice, "\n".join(twice)
