"""Pickles that would run code: refused with a message, and nothing runs.

Every payload creates a file when it is loaded by Python's own unpickler, and the tests make sure that it does: a
payload that never worked would prove nothing.
"""

import contextlib
import copyreg
import os
import pickle
import pickletools
import struct
import subprocess
import sys
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from emma_viz.checkpoints import inspect, load_model
from emma_viz.checkpoints.readers.allowed import (
    MAPPINGS,
    PLACEHOLDERS,
    STORAGES,
    TENSORS,
    WRAPPERS,
    is_placeholder,
)
from emma_viz.checkpoints.readers.files import open_weights
from emma_viz.checkpoints.readers.pickles import Name, Opaque, PickledStorage, PickledTensor, read_pickle
from emma_viz.errors import CheckpointError, UnsafePickleError


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


class WithState:
    """Pickles as an allowed object with a state that holds a call."""

    def __init__(self, state):
        self.state = state

    def __reduce__(self):
        return partial, (print,), self.state


class Watch:
    """Counts what an interpreter tells its auditors about running code."""

    events = (
        "import",
        "exec",
        "compile",
        "os.system",
        "os.exec",
        "subprocess.Popen",
        "pickle.find_class",
        "open",
    )

    def __init__(self):
        self.seen = None
        sys.addaudithook(self.note)

    def note(self, event, arguments):
        if self.seen is not None and event.startswith(self.events) and event != "open":
            self.seen.append((event, str(arguments)[:80]))


WATCH = Watch()


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "canary"


def payloads(canary):
    """Name → object whose unpickling creates the canary."""
    shell = f"touch {canary}"
    code = f"open({str(canary)!r}, 'w').close()"
    call = Call(os.system, shell)
    return {
        "os.system": call,
        "exec": Call(exec, code),
        "eval": Call(eval, code),
        "subprocess": Call(subprocess.check_call, ["touch", str(canary)]),
        "runpy through a list": [1, [2, (3, call)]],
        "dictionary value": {"deep": {"deeper": {"deepest": call}}},
        "dictionary key": {Call(os.makedirs, str(canary)): 1},
        "argument of an allowed call": partial(print, call),
        "state of an allowed object": WithState((print, (call,), {}, None)),
        "open": Call(open, str(canary), "w"),
        "map": Call(list, Call(map, os.makedirs, [str(canary)])),
        "pickle in pickle": Call(pickle.loads, pickle.dumps(call)),
    }


PAYLOADS = list(payloads("x"))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", PAYLOADS)
def test_the_payloads_do_work_when_unpickled(name, canary):
    data = pickle.dumps(payloads(canary)[name])
    with contextlib.suppress(TypeError):  # a partial of a number, after the harm is done
        pickle.loads(data)
    assert canary.exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", PAYLOADS)
def test_code_in_the_model_part_is_refused(name, protocol, canary, archive):
    assert_refused(archive(pickle.dumps({"model": {"w": payloads(canary)[name]}}, protocol)), canary)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", PAYLOADS)
def test_code_beside_the_model_part_is_refused(name, protocol, canary, archive):
    assert_refused(
        archive(pickle.dumps({"model": {}, "optimizer": payloads(canary)[name]}, protocol)), canary
    )


def test_code_in_a_file_that_torch_wrote_is_refused(tmp_path, canary):
    path = tmp_path / "evil.pt"
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))])
    torch.save(
        {"model": {"w": torch.ones(2)}, "optimizer": optimizer, "z": Call(os.system, f"touch {canary}")}, path
    )
    assert_refused(path, canary)


def test_loading_and_inspecting_refuse_too(run_directory, canary):
    folder = run_directory(extra={"scheduler": Call(os.system, f"touch {canary}")})
    for use in (load_model, inspect):
        with pytest.raises(UnsafePickleError, match=r"refused, nothing was run.*'(posix|nt)\.system'"):
            use(folder)
    assert not canary.exists()


def test_opcodes_by_hand(canary, archive):
    shell = f"touch {canary}".encode()
    text = struct.pack("<B", len(shell)) + shell
    long_text = b"S'" + shell + b"'\n"
    programs = {
        "GLOBAL": b"cos\nsystem\n(" + long_text + b"tR.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + text + b"\x85R.",
        "INST": b"(" + long_text + b"ios\nsystem\n.",
        "OBJ": b"(cos\nsystem\n" + long_text + b"o.",
        "NEWOBJ": b"\x80\x02cos\nsystem\n(" + long_text + b"t\x81.",
        "NEWOBJ_EX": b"\x80\x04cos\nsystem\n(" + long_text + b"t}\x92.",
        "memo": b"cos\nsystem\np0\n0g0\n(" + long_text + b"tR.",
        "python 2 name": b"c__builtin__\nexec\n(" + long_text + b"tR.",
        "dotted name": b"\x80\x04\x8c\x0btorch.optim\x8c\x0fsgd.Optimizer.x\x93).",
        "private module": b"ctorch.optim.lr_scheduler\nwarnings\n.",
        "torch.load": b"ctorch\nload\n(tR.",
        "bytes loader": b"ctorch.storage\n_load_from_bytes\n(tR.",
        "typed in its own namespace": b"cnumpy.testing._private.utils\nrunstring\n(tR.",
    }
    for name, program in programs.items():
        for pickled in (program, b"}(X\x05\x00\x00\x00modelX\x01\x00\x00\x00w" + program[:-1] + b"u."):
            with pytest.raises(UnsafePickleError, match="refused, nothing was run"):
                read_pickle(pickled, where=name)
            assert_refused(archive(pickled), canary)
    for name in ("GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "memo"):
        pickle.loads(programs[name])
        assert canary.exists(), name
        canary.unlink()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"cfunctools\npartial\n(cbuiltins\nint\ntR(tR.", "calls an object it has just built"),
        (b"ctorch.optim\nAdamW\n}b.", "changes a Name in place"),
        (b"]}b.", "changes a list in place"),
        (b"\x82\x01.", "instruction EXT1"),
        (b"\x83\x01\x00.", "instruction EXT2"),
        (b"\x84\x01\x00\x00\x00.", "instruction EXT4"),
        (b"Pos.system\n.", "instruction PERSID"),
        (b"\x97.", "instruction NEXT_BUFFER"),
    ],
)
def test_tricks_with_instructions(program, message):
    with pytest.raises(UnsafePickleError, match=message):
        read_pickle(program, where="x")


def test_the_extension_registry_is_not_looked_at(canary, archive):
    copyreg.add_extension("os", "system", 240)
    try:
        program = b"\x80\x02\x82\xf0(S'touch " + str(canary).encode() + b"'\ntR."
        pickle.loads(program)
        assert canary.exists()
        canary.unlink()
        assert_refused(archive(program), canary)
    finally:
        copyreg.remove_extension("os", "system", 240)


@pytest.mark.parametrize(
    "name",
    [
        "os.system", "posix.system", "nt.system", "subprocess.Popen", "builtins.eval", "builtins.exec",
        "builtins.getattr", "builtins.setattr", "builtins.__import__", "builtins.compile", "builtins.open",
        "builtins.type", "builtins.map", "builtins.apply", "operator.attrgetter", "operator.methodcaller",
        "importlib.import_module", "runpy.run_path", "pickle.loads", "_pickle.loads", "torch.load", "torch.save",
        "torch.hub.load", "torch.jit.load", "torch.package.PackageImporter", "torch._dynamo.optimize",
        "torch.utils.cpp_extension.load", "torch.storage._load_from_bytes", "torch.nn.modules.linear.Linear",
        "torch.optim.lr_scheduler.warnings", "torch.optim.optimizer.os", "torch.optim.optimizer.functools",
        "functools.reduce", "functools.wraps", "collections.namedtuple", "types.FunctionType", "types.CodeType",
        "types.MethodType", "ctypes.CDLL", "socket.socket", "shutil.rmtree", "webbrowser.open", "pdb.run",
        "numpy.load", "numpy.f2py.compile", "numpy.core.multiarray.fromfile", "transformers.optimization.partial",
        "transformers.AutoModel", "pip.main", "sys.modules", "weakref.finalize", "emma.training.Strategy",
    ],
)  # fmt: skip
def test_names_that_are_not_on_the_list(name):
    module, _, attribute = name.rpartition(".")
    assert not is_placeholder(module, attribute)
    with pytest.raises(UnsafePickleError, match="is not among the names"):
        read_pickle(f"c{module}\n{attribute}\n.".encode(), where="x")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch.optim" + ".a" * 300, "Adam"),
        ("torch._utils", "_rebuild_" + "a" * 600),
        ("transformers.optimization", "get_" + "schedule" * 100_000),
        ("transformers.optimization", "get_" + "schedule" * 100_000 + "!"),
    ],
)
def test_names_longer_than_any_are_refused_unread(module, name):
    """The last would take the patterns half an hour."""
    with pytest.raises(UnsafePickleError, match="is not among the names"):
        read_pickle(f"c{module}\n{name}\n.".encode(), where="x")


def test_patterns_match_whole_names_only():
    tables = [*STORAGES, *TENSORS, *WRAPPERS, *MAPPINGS]
    for module, name in [*tables, ("functools", "partial"), ("torch.optim.adamw", "AdamW")]:
        for changed in (
            (f"x.{module}", name),
            (module, f"{name}.x"),
            (f"x{module}", name),
            (module, f"x{name}"),
        ):
            if changed not in tables:
                assert not is_placeholder(*changed), changed
    assert all(module.pattern and name.pattern for module, name in PLACEHOLDERS)


def test_no_module_is_imported_and_nothing_is_called(archive, tmp_path):
    """The interpreter's own auditors see no import, no compilation, no process, no unpickling."""
    from transformers.optimization import get_linear_schedule_with_warmup

    optimizer = torch.optim.Adam([nn.Parameter(torch.ones(3))])
    path = tmp_path / "objects.pt"
    scheduler = get_linear_schedule_with_warmup(optimizer, 1, 2)
    torch.save({"model": {"w": torch.ones(2)}, "optimizer": optimizer, "scheduler": scheduler}, path)
    evil = archive(b"cantigravity\nfly\n(tR.")
    open_weights(path)
    WATCH.seen = []
    try:
        open_weights(path)
        with pytest.raises(UnsafePickleError):
            open_weights(evil)
        seen = list(WATCH.seen)
        pickle.loads(pickle.dumps(partial(int)))
        assert WATCH.seen[len(seen) :], "the watch sees nothing at all"
    finally:
        WATCH.seen = None
    assert seen == []


INERT = (Opaque, Name, PickledStorage, PickledTensor, dict, list, tuple, str, bytes, int, float, type(None))


@settings(max_examples=200)
@given(st.data())
def test_damaged_programs_are_errors_or_inert(data):
    """Whatever bytes are changed, the outcome is made of inert parts, or one of the two errors."""
    value = {"a": [1, (2.5, "x")], "b": partial(int), "c": {"d": b"y"}}
    program = bytearray(pickle.dumps(value, data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(1, 4))):
        program[data.draw(st.integers(0, len(program) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CheckpointError):
        assert_inert(read_pickle(bytes(program), where="x"))


@settings(max_examples=200)
@given(st.lists(st.sampled_from(sorted(opcode.code for opcode in pickletools.opcodes)), max_size=30))
def test_random_programs_are_errors_or_inert(codes):
    program = b"(](}cbuiltins\nint\n" + b"".join(code.encode("latin-1") for code in codes) + b"."
    with contextlib.suppress(CheckpointError):
        assert_inert(read_pickle(program, where="x"))


def assert_inert(value):
    pending, seen = [value], set()
    while pending:
        item = pending.pop()
        assert type(item) in INERT or type(item) is bool, type(item)
        if id(item) not in seen:
            seen.add(id(item))
            pending += [*item, *item.values()] if isinstance(item, dict) else []
            pending += item if isinstance(item, list | tuple) else []


def assert_refused(path, canary):
    with pytest.raises(UnsafePickleError, match="refused, nothing was run"):
        open_weights(path)
    assert not canary.exists()
