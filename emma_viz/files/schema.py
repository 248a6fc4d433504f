"""From JSON to a frozen dataclass: every field there, of its type and in its range, and none beside them."""

import dataclasses
import math
import types
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from emma_viz.errors import EmmaVizError

Shaped = TypeVar("Shaped")

Size = Annotated[int, msgspec.Meta(ge=1, le=2**24)]
"""A width, a count of layers or tokens: at least 1, at most 16 million."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""A number of things, possibly none."""
Positive = Annotated[float, msgspec.Meta(gt=0)]
"""A number above zero."""
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
"""A number from 0 to 1."""
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""What random streams begin with."""


def shape(
    value: Any,
    kind: type[Shaped] | types.GenericAlias,
    *,
    where: str,
    error: type[EmmaVizError],
    spare: bool = False,
) -> Shaped:
    """Build `kind` from what JSON held.

    Types are strict: a text is no number, a number is no truth value; lists become tuples where the field is one.
    Ranges are those of the fields' annotations (`Size`, or any `Annotated[…, msgspec.Meta(…)]`), and a dataclass's
    `__post_init__` may refuse with a ValueError, which every `InputError` is.

    Args:
        value: JSON's own types.
        kind: a dataclass, or any type that msgspec converts to.
        where: the file and place, for messages.
        error: what is raised.
        spare: let fields pass that `kind` does not have, as files of other programs hold them.

    Raises:
        EmmaVizError: of the kind `error`: a field is missing, unknown, of another type or outside its range.
    """
    try:
        if not spare and (unknown := sorted(_unknown(value, kind, ""))):
            raise error(f"{where}: unknown fields {', '.join(map(repr, unknown[:8]))}.")
        return msgspec.convert(value, kind)
    except UnicodeEncodeError as failure:
        raise error(f"{where}: it holds unpaired surrogates, which are no text.") from failure
    except msgspec.ValidationError as failure:
        # What __post_init__ said is the cause.
        said = failure.__cause__ if isinstance(failure.__cause__, EmmaVizError) else failure
        raise error(f"{where}: {str(said).rstrip('.')}.") from failure


def require_ranges(
    value: Any, *, error: type[EmmaVizError], options: Mapping[str, str] | None = None
) -> None:
    """Refuse a dataclass one of whose fields is not what its annotation says; for `__post_init__`.

    So that what a program passes is held to the same ranges as what a file says.

    Args:
        value: an instance.
        error: what is raised.
        options: for what the command line sets: field → option, where it is not the field's name; numbers must be
            finite then.

    Raises:
        EmmaVizError: of the kind `error`.
    """
    for name, hint in _hints(type(value)).items():
        came = getattr(value, name)
        try:
            msgspec.convert(came, hint)
            if options is not None and isinstance(came, float) and not math.isfinite(came):
                raise msgspec.ValidationError("Expected a finite number")
        except (msgspec.ValidationError, UnicodeEncodeError) as failure:
            said = str(failure).replace("`$", f"`{name}")
            place = said if name in said else f"{said} - at `{name}`"
            option = "" if options is None else f" ({options.get(name, '--' + name.replace('_', '-'))})"
            raise error(f"{type(value).__name__}: {place}{option}, got {came!r:.100}.") from failure


def _unknown(value: Any, kind: Any, place: str) -> Iterator[str]:
    """The dotted names of all entries that no dataclass has a field for."""
    origin = get_origin(kind)
    if not _has_fields(kind):
        return
    if origin is Annotated:
        yield from _unknown(value, get_args(kind)[0], place)
    elif origin in (Union, types.UnionType):
        # Of several classes, the one that fits best is meant.
        found = [list(_unknown(value, each, place)) for each in get_args(kind) if each is not type(None)]
        yield from min(found, key=len, default=[])
    elif dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        hints = _hints(kind)
        for key, item in value.items():
            if key in hints:
                yield from _unknown(item, hints[key], f"{place}{key}.")
            else:
                yield f"{place}{key}"
    elif origin in (list, tuple) and isinstance(value, list):
        parts = [part for part in get_args(kind) if part is not Ellipsis]
        for index, item in enumerate(value):
            part = parts[index] if origin is tuple and index < len(parts) else parts[-1] if parts else Any
            yield from _unknown(item, part, f"{place}{index}.")
    elif origin is not None and isinstance(value, Mapping) and len(get_args(kind)) == 2:
        for key, item in value.items():
            yield from _unknown(item, get_args(kind)[1], f"{place}{key}.")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


@cache
def _has_fields(kind: Any) -> bool:
    """Whether a dataclass is in it; of millions of numbers none needs to be looked at."""
    return dataclasses.is_dataclass(kind) or any(map(_has_fields, get_args(kind)))
