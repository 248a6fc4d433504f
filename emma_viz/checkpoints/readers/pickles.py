"""A pickle reader that executes nothing: it knows what the opcodes build, and builds only inert descriptions.

A pickle is a program for a small stack machine whose instructions can import and call anything. This machine
runs the same programs with imports and calls taken out: a name becomes a `Name`, a call to a known tensor
builder becomes a `PickledTensor`, a call to any other permitted name an `Opaque`, and a name that is not in
`emma_viz.checkpoints.readers.allowed` ends the reading. Python's `pickle` module is not used.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from emma_viz.checkpoints.readers import allowed
from emma_viz.checkpoints.readers.allowance import Allowance
from emma_viz.errors import CheckpointError, UnsafePickleError

PYTHON_2_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
BITS = 4096
"""Of the longest integer."""
_BATCH = 100
"""Instructions that are accounted for at once."""
AXES = 16
"""Axes of a tensor; no parameter has more than five."""


@dataclass(frozen=True, eq=False, slots=True)
class Name:
    """A global the pickle mentions. It is not imported."""

    module: str
    name: str

    @property
    def key(self) -> tuple[str, str]:
        """The two parts, as the tables of `allowed` hold them."""
        return self.module, self.name

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, eq=False, slots=True)
class Opaque:
    """An object the pickle would have made by calling `maker`. It was not made; its contents are dropped."""

    maker: str


@dataclass(frozen=True, eq=False, slots=True)
class PickledStorage:
    """A storage of the archive: `numel` elements under `key`."""

    dtype: torch.dtype
    key: str
    numel: int


@dataclass(frozen=True, eq=False, slots=True)
class PickledTensor:
    """A tensor as the pickle describes it: a view of a storage, in elements."""

    storage: PickledStorage
    dtype: torch.dtype
    """The storage's, or another one when that is of plain bytes."""
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_pickle(data: bytes, *, where: str, allowance: Allowance | None = None) -> Any:
    """Build what `data` describes from dictionaries, lists, tuples, text, numbers, tensors and placeholders.

    Args:
        data: the pickle, any protocol.
        where: the file, for messages.
        allowance: what is left of the limits; a full one when None.

    Returns:
        The top-level object. Parts of it may be shared many times, but no part was copied.

    Raises:
        UnsafePickleError: the pickle mentions a name, or uses an instruction, outside the permitted ones.
        CheckpointError: the bytes are not a well-formed pickle, or one that takes more than is left.
    """
    machine = _Machine(where, allowance or Allowance())
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data), start=1):
            if count % _BATCH == 0:
                machine.spend(_BATCH)
            if opcode.name == "STOP":
                machine.spend(count % _BATCH)
                return machine.pop()
            machine.step(opcode.name, argument)
    except CheckpointError:
        raise
    except Exception as error:  # A malformed program may break the machine in any way; all mean the same.
        raise CheckpointError(
            f"{where}: the pickle in it is damaged ({type(error).__name__}: {error}). Download or copy it again."
        ) from error
    raise CheckpointError(f"{where}: the pickle in it has no end. Download or copy it again.")


class _Machine:
    """The stack machine. One method per instruction that does more than push a constant."""

    def __init__(self, where: str, allowance: Allowance):
        self.where = where
        self.allowance = allowance
        self.permitted: dict[tuple[str, str], Name] = {}
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def spend(self, count: int) -> None:
        """Account for work, so that a small program cannot make much of it."""
        self.allowance.spend_steps(count, self.where)

    def step(self, name: str, argument: Any) -> None:
        """Run one instruction."""
        if name in _IGNORED:
            return
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _LITERALS:
            # The state of a random generator has some hundred bits.
            if isinstance(argument, int) and argument.bit_length() > BITS:
                raise ValueError(f"an integer of {argument.bit_length()} bits")
            self.stack.append(argument)
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        else:
            raise UnsafePickleError(
                f"{self.where}: refused, nothing was run. Its pickle uses the instruction {name}, which no "
                f"checkpoint of tensors needs. {_MEND}"
            )

    def pop(self) -> Any:
        """Take the top of the stack."""
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        """Take everything above the last mark."""
        items, self.stack = self.stack, self.marks.pop()
        return items

    def mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def collect(self, kind: Callable[[list], Any]) -> None:
        """Replace everything above the last mark by one value made of it."""
        items = self.pop_mark()
        self.stack.append(kind(items))

    def tuple_of(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        if len(items) < count:
            raise IndexError("stack underflow")
        self.stack[-count:] = [items]

    def duplicate(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.push_name(module, name)

    def stack_name(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise TypeError("a global's name is not text")
        self.push_name(module, name)

    def push_name(self, module: str, name: str) -> None:
        self.stack.append(self.permit(Name(PYTHON_2_MODULES.get(module, module), name)))

    def permit(self, name: Name) -> Name:
        """Let a name pass, or refuse the file."""
        if (before := self.permitted.get(name.key)) is not None:
            return before
        if any(name.key in table for table in allowed.TABLES) or allowed.is_placeholder(*name.key):
            return self.permitted.setdefault(name.key, name)
        quantised = " It belongs to a quantised model." if str(name).startswith(allowed.QUANTISED) else ""
        raise UnsafePickleError(
            f"{self.where}: refused, nothing was run. Loading its pickle would call {str(name)[:200]!r}, which "
            f"is not among the names a checkpoint may mention.{quantised} {_MEND}"
        )

    def call(self, maker: Any, arguments: Any) -> None:
        """Push a description of what calling `maker` would give."""
        if not isinstance(maker, Name):
            raise UnsafePickleError(
                f"{self.where}: refused, nothing was run. Its pickle calls an object it has just built "
                f"({type(maker).__name__}). {_MEND}"
            )
        if maker.key in allowed.MAPPINGS:
            self.stack.append(self.mapping(arguments))
        else:
            self.stack.append(_described(maker, arguments))

    def mapping(self, arguments: tuple) -> dict:
        """A dictionary from the arguments of `OrderedDict`, `defaultdict` or `dict`: pairs or a dictionary, if any."""
        items = next((item for item in arguments if isinstance(item, list | dict)), {})
        self.spend(len(items))  # The one instruction whose work does not stand in the program.
        pairs = items.items() if isinstance(items, dict) else ((key, value) for key, value in items)
        return {_hashable(key): value for key, value in pairs}

    def reduce(self, _: Any) -> None:
        arguments = self.pop()
        self.call(self.pop(), arguments)

    def new_object(self, _: Any) -> None:
        arguments = self.pop()
        maker = self.pop()
        self.call(maker, arguments)

    def new_object_ex(self, _: Any) -> None:
        _keywords, arguments, maker = self.pop(), self.pop(), self.pop()
        self.call(maker, arguments)

    def instance(self, argument: str) -> None:
        self.name(argument)
        maker = self.pop()
        self.call(maker, tuple(self.pop_mark()))

    def object_of(self, _: Any) -> None:
        items = self.pop_mark()
        self.call(items[0], tuple(items[1:]))

    def build(self, _: Any) -> None:
        # State of an inert object is dropped; so are attributes of a dictionary, such as `_metadata`.
        self.pop()
        if not isinstance(self.stack[-1], Opaque | dict | PickledTensor):
            raise UnsafePickleError(
                f"{self.where}: refused, nothing was run. Its pickle changes a "
                f"{type(self.stack[-1]).__name__} in place. {_MEND}"
            )

    def persistent(self, _: Any) -> None:
        match self.pop():
            case ("storage", Name() as kind, str() as key, _, int() as numel) if _are_sizes((numel,)):
                self.stack.append(PickledStorage(allowed.STORAGES[kind.key], key, numel))
            case _:
                raise ValueError("a persistent id is not that of a storage")

    def set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self.fill(self.stack[-1], [key, value])

    def set_items(self, _: Any) -> None:
        items = self.pop_mark()
        self.fill(self.stack[-1], items)

    def dictionary(self, _: Any) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self.fill(self.stack[-1], items)

    def fill(self, target: Any, items: list[Any]) -> None:
        """Put alternating keys and values into a dictionary; those of an inert object are dropped."""
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                target[_hashable(key)] = value
        elif not isinstance(target, Opaque):
            raise TypeError(f"items set on a {type(target).__name__}")

    def append(self, _: Any) -> None:
        item = self.pop()
        self.extend(self.stack[-1], [item])

    def append_all(self, _: Any) -> None:
        items = self.pop_mark()
        self.extend(self.stack[-1], items)

    def extend(self, target: Any, items: list[Any]) -> None:
        """Append to a list; what is appended to an inert object is dropped."""
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Opaque):
            raise TypeError(f"items appended to a {type(target).__name__}")

    def remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        self.stack.append(self.memo[index])


_MEND = (
    "If you trust where it comes from, load it with torch on a machine you can lose, keep only the tensors, and "
    "save them as safetensors."
)
_IGNORED = {"PROTO", "FRAME"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_ACTIONS: Mapping[str, Callable[[_Machine, Any], object]] = {
    "MARK": _Machine.mark,
    "POP": lambda machine, _: machine.stack.pop() if machine.stack else machine.pop_mark(),
    "POP_MARK": lambda machine, _: machine.pop_mark(),
    "DUP": _Machine.duplicate,
    "TUPLE": lambda machine, _: machine.collect(tuple),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "LIST": lambda machine, _: machine.collect(list),
    "DICT": _Machine.dictionary,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.append_all,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "EMPTY_SET": lambda machine, _: machine.stack.append(Opaque("builtins.set")),
    "ADDITEMS": _Machine.append_all,
    "FROZENSET": lambda machine, _: machine.collect(lambda _: Opaque("builtins.frozenset")),
    "PUT": _Machine.remember,
    "BINPUT": _Machine.remember,
    "LONG_BINPUT": _Machine.remember,
    "MEMOIZE": lambda machine, _: machine.remember(len(machine.memo)),
    "GET": _Machine.recall,
    "BINGET": _Machine.recall,
    "LONG_BINGET": _Machine.recall,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_name,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.new_object,
    "NEWOBJ_EX": _Machine.new_object_ex,
    "INST": _Machine.instance,
    "OBJ": _Machine.object_of,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}


def _hashable(key: Any) -> Any:
    # Tuples are refused as keys: hashing nested ones can be made to take for ever.
    if key is None or isinstance(key, str | bytes | int | float | bool | Name | Opaque | PickledTensor):
        return key
    raise TypeError(f"a dictionary key is a {type(key).__name__}")


def _described(maker: Name, arguments: Any) -> Any:
    """What calling `maker` would give, as inert data."""
    if maker.key in allowed.TENSORS | allowed.TYPED_TENSORS:
        storage, offset, shape, strides = arguments[:4]
        ok = isinstance(storage, PickledStorage) and _are_sizes((offset,))
        if not (ok and _are_sizes(shape) and _are_sizes(strides) and len(shape) == len(strides)):
            raise ValueError("a tensor is described with wrong fields")
        dtype = allowed.DTYPES[arguments[6].key] if maker.key in allowed.TYPED_TENSORS else storage.dtype
        return PickledTensor(storage, dtype, offset, shape, strides)
    if maker.key in allowed.WRAPPERS and isinstance(arguments[0], PickledTensor):
        return arguments[0]
    return Opaque(str(maker))


def _are_sizes(values: Any) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) <= AXES
        and all(isinstance(value, int) and 0 <= value < 2**63 for value in values)
    )
