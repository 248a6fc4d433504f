"""What is public says what it takes, in which axes and units, and what it raises.

Public is what `emma_viz` and its rooms export: the names in their `__all__`, with the methods of the classes among
them; of a room without one, whose modules are imported by their own names, all that these define. That every other
function of what ships has a docstring whose arguments are whole is held by ruff (D).
"""

import ast
import builtins
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from types import ModuleType

import pytest
from safetensors import SafetensorError

import emma_viz
from emma_viz import errors

ROOMS = (
    "emma_viz",
    *(f"emma_viz.{each.name}" for each in pkgutil.iter_modules(emma_viz.__path__) if each.name != "__main__"),
)
MIGRATIONS = "emma_viz.cases.migrations"
"""Steps of the database, which only alembic runs."""
ARRAYS = {"Tensor", "torch.Tensor", "np.ndarray", "ndarray", "numpy.ndarray"}
COLOURED = re.compile(r"[\"'][^\"']*\b(c|3)[\"']")
"""The axes of an array of pixels: colours last."""
SCALE = re.compile(r"\[0, 1\]|uint8|0 to 255|0 … 255|sRGB|normalised|scale of|any scale")
"""What the numbers of a pixel may be."""
SECTION = re.compile(r"^(Args|Returns|Yields|Raises|Examples|Attributes):$", re.MULTILINE)
AXES = re.compile(
    r"\([\w·.…*+− -]+(, ?[\w·.…*+− -]*)+\)|\"[\w* ….·+−-]+\"|one (number|value) (a|for each)|any shape"
)
"""How a text states axes: (B, T, D), "B T D", one number each, or that all are taken."""


@dataclass(frozen=True)
class Public:
    """One function or method that a user can call."""

    name: str
    tree: ast.FunctionDef
    doc: str
    method: bool

    @property
    def parameters(self) -> list[ast.arg]:
        """All but self or cls."""
        given = self.tree.args
        plain = [*given.posonlyargs, *given.args]
        bound = self.method and not any(_name(each) == "staticmethod" for each in self.tree.decorator_list)
        own = plain[1:] if bound else plain
        return [*own, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]

    def section(self, title: str) -> dict[str, str]:
        """The entries of a section of the docstring, by name, each with its text."""
        found, here, name = {}, False, ""
        for line in self.doc.splitlines():
            if SECTION.match(line):
                here = line == f"{title}:"
            elif here and (entry := re.match(r"^    (\*{0,2}\w+(?:, \*{0,2}\w+)*): ?(.*)", line)):
                for name in entry[1].replace("*", "").split(", "):
                    found[name] = entry[2]
            elif here and name in found:
                found[name] += " " + line.strip()
        return found


def _name(node: ast.AST) -> str:
    return ast.unparse(node.func if isinstance(node, ast.Call) else node).split(".")[-1]


def functions_of(name: str, value: object) -> Iterator[Public]:
    """A function, or the public methods that a class itself defines; a plain class's constructor is its class's."""
    if inspect.isclass(value):
        for key, member in vars(value).items():
            plain = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            constructor = (
                key == "__init__" and member.__module__ == value.__module__ and not is_dataclass(value)
            )
            if inspect.isfunction(plain) and (constructor or not key.startswith("_")):
                yield public(
                    f"{name}.{key}",
                    plain,
                    (plain.__doc__ or value.__doc__) if constructor else plain.__doc__,
                    True,
                )
    elif inspect.isfunction(value):
        yield public(name, value, value.__doc__, False)


def public(name: str, function: object, doc: str | None, method: bool) -> Public:
    """What the source of a function says."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function)))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    return Public(name, tree, inspect.cleandoc(doc or ""), method)


def exported() -> Iterator[tuple[str, object]]:
    """The names that users import, with what they mean."""
    for room in ROOMS:
        module = importlib.import_module(room)
        if hasattr(module, "__all__"):
            yield from ((name, getattr(module, name)) for name in module.__all__)
        elif hasattr(module, "__path__"):
            for each in pkgutil.walk_packages(module.__path__, f"{room}."):
                if not each.ispkg and not each.name.startswith(MIGRATIONS):
                    yield from own(importlib.import_module(each.name))
        else:
            yield from own(module)


def own(module: ModuleType) -> Iterator[tuple[str, object]]:
    """What a module itself defines."""
    for name, value in vars(module).items():
        if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__:
            yield name, value


def everything() -> list[Public]:
    """All that is public, once each."""
    found: dict[str, Public] = {}
    for name, value in exported():
        if getattr(value, "__module__", "").startswith("emma_viz"):
            for each in functions_of(f"{value.__module__}.{name}", value):
                found[each.name] = each
    return list(found.values())


PUBLIC = everything()
FOREIGN = {"SafetensorError": SafetensorError}
FEW = 2
"""So many arguments the name and the types of a function explain; where there are more, each is spoken of."""
ELSEWHERE = re.compile(r"\bas (in|for|of) `[\w.]+`")
"""A docstring that leaves its other arguments to that of another function."""


def complaints(check) -> str:
    return "\n".join(f"{each.name}: {said}" for each in PUBLIC for said in check(each))


def undocumented(each: Public) -> Iterator[str]:
    if not each.doc:
        yield "no docstring"


def arguments(each: Public) -> Iterator[str]:
    names, told = [arg.arg for arg in each.parameters], each.section("Args")
    for spare in told.keys() - set(names):
        yield f"Args tells of {spare}, which it does not take"
    if (told or len(names) > FEW) and not ELSEWHERE.search(each.doc):
        for name in names:
            if name not in told and (told or not re.search(rf"\b{name}\b", each.doc)):
                yield f"Args lacks {name}"


def raised(each: Public) -> Iterator[str]:
    told = each.section("Raises")
    classes = {name: _error(name) for name in told}
    for name, found in classes.items():
        if found is None:
            yield f"Raises tells of {name}, which is no error"
    listed = tuple(filter(None, classes.values()))
    for node in ast.walk(each.tree):
        error = _error(_name(node.exc)) if isinstance(node, ast.Raise) and node.exc is not None else None
        if error is not None and not issubclass(error, listed):
            yield f"Raises lacks {error.__name__}"


def _error(name: str) -> type[BaseException] | None:
    found = getattr(errors, name, None) or getattr(builtins, name, None) or FOREIGN.get(name)
    return found if inspect.isclass(found) and issubclass(found, BaseException) else None


def axes(each: Public) -> Iterator[str]:
    told = each.section("Args")
    for arg in each.parameters:
        bare = (
            {part.strip() for part in ast.unparse(arg.annotation).split("|")} & ARRAYS
            if arg.annotation
            else set()
        )
        if bare and not AXES.search(told.get(arg.arg, "")):
            yield f"the axes of {arg.arg} are not stated"
    if (
        each.tree.returns is not None
        and ast.unparse(each.tree.returns) in ARRAYS
        and not AXES.search(each.doc)
    ):
        yield "the axes of what it returns are not stated"


def units(each: Public) -> Iterator[str]:
    hints = [arg.annotation for arg in each.parameters] + [each.tree.returns]
    for hint in filter(None, hints):
        said = ast.unparse(hint)
        if said.startswith("Float") and COLOURED.search(said) and not SCALE.search(each.doc):
            yield f"the scale of pixels in {said} is not stated"


@pytest.mark.parametrize(
    "check", [undocumented, arguments, raised, axes, units], ids=lambda check: check.__name__
)
def test_what_is_public_says(check):
    assert len(PUBLIC) > 400
    found = complaints(check)
    assert not found, f"{len(found.splitlines())} complaints:\n{found}"
