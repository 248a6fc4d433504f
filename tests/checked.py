"""What the import hook puts on every function: the check of its types, and of shapes where it names some."""

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import wraps
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype

_jaxtyped = jaxtyping.jaxtyped
_of_types = beartype(conf=BeartypeConf(violation_type=jaxtyping.TypeCheckError))


def checked(decorated: Callable | None = None, *, typechecker: object = None):
    """Stand in for `jaxtyping.jaxtyped`, and check the same in a fraction of the time.

    A check is made at the first call, as most functions are called in few processes of the tests or in none; a scope
    of axes is opened for those functions alone that name some; parameters are checked once a call and not twice.
    """
    if decorated is None:
        return checked
    if inspect.isclass(decorated):
        if is_dataclass(decorated) and "__init__" in vars(decorated):
            decorated.__init__ = checked(decorated.__init__)
        return decorated
    check = None

    @wraps(decorated)
    def call(*args, **kwargs):
        __tracebackhide__ = True
        nonlocal check
        if jaxtyping.config.jaxtyping_disable:
            return decorated(*args, **kwargs)
        if check is None:
            check = _check(decorated)
        return check(*args, **kwargs)

    return call


def _check(function: Callable) -> Callable:
    if inspect.isgeneratorfunction(function):
        # Its parameters are checked when it is called, not when the first value is taken; and without a type checker,
        # jaxtyping would check the arrays that it yields no more anywhere.
        return _jaxtyped(function, typechecker=_of_types)
    function.__annotations__ = hints = _resolved(function)
    check = _of_types(function)
    return _jaxtyped(check, typechecker=None) if any(map(_names_axes, hints.values())) else check


def _resolved(function: Callable) -> dict[str, object]:
    """The types that a function names; anything where a name was imported for the type checker alone."""
    hints = {}
    for name, hint in inspect.get_annotations(function).items():
        one = SimpleNamespace(__annotations__={name: hint})
        try:
            hints |= get_type_hints(one, function.__globals__, include_extras=True)
        except NameError:
            hints[name] = Any
    return hints


def _names_axes(hint: object) -> bool:
    """Whether a type is an array with named axes, or holds one."""
    array = inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray)
    return array or any(map(_names_axes, get_args(hint)))
