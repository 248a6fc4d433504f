"""Weight files of PyTorch's format that were made to do harm: programs, bombs, lies about sizes, damaged archives."""

import pickle
import pickletools
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import torch

Write = Callable[[Path], object]
"""Writes one weight file to the path given."""

ORDERED = b"ccollections\nOrderedDict\n"
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x10tQ"


def pickled_weights(state: dict, seed: int) -> Iterator[tuple[str, Write]]:
    """Kinds of hostile `.pt` files.

    Args:
        state: the nested state of a sound model, for files that are damaged.
        seed: of what is damaged.

    Yields:
        (what is wrong, what writes it).
    """
    for name, program in {**_bombs(), **_lies(), **_programs()}.items():
        yield f"pickle: {name}", lambda path, program=program: write_archive(path, program)
        inside = b"\x80\x02}X\x05\x00\x00\x00model}X\x01\x00\x00\x00w" + program.removesuffix(b".") + b"ss."
        yield f"pickle in the model part: {name}", lambda path, inside=inside: write_archive(path, inside)
    for name, write in _archives().items():
        yield f"archive: {name}", write
    for name, tensor in _odd_tensors().items():
        changed = {part: dict(tensors) for part, tensors in state.items()}
        part = next(iter(changed))
        changed[part][next(iter(changed[part]))] = tensor
        yield f"weights: {name}", lambda path, changed=changed: torch.save({"model": changed}, path)
    yield from _damaged(state, Random(seed))


def write_archive(path: Path, program: bytes, *, storage: bytes = bytes(64), **others: bytes) -> None:
    """An archive as torch writes it, around a pickle of one's own."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", program)
        file.writestr("a/byteorder", "little")
        file.writestr("a/data/0", storage)
        for name, data in others.items():
            file.writestr(f"a/{name}", data)


def _bombs() -> dict[str, bytes]:
    """Small programs that describe much, or take long."""
    letters = [bytes([ord("a") + index]) for index in range(12)]
    wide = b"}"
    for depth in range(8):
        filled = b"".join(b"X\x01\x00\x00\x00" + letter + b"h" + bytes([depth]) for letter in letters)
        wide += b"q" + bytes([depth]) + b"0}(" + filled + b"u"
    numbers = b"(" + b"K\x01" * 3000 + b"l"
    keys = b"".join(b"X\x04\x00\x00\x00%04dh\x00" % index for index in range(3000))
    thousand = b"".join(b"X\x04\x00\x00\x00%04dN" % index for index in range(1000))
    copies = b"".join(b"X\x04\x00\x00\x00%04d" % index + ORDERED + b"h\x00\x85R" for index in range(2000))
    return {
        "dictionaries 12 wide and 8 deep": b"\x80\x02" + wide + b".",
        "3000 keys share a list": b"\x80\x02" + numbers + b"q\x000}(" + keys + b"u.",
        "a dictionary copied 2000 times": b"\x80\x02}(" + thousand + b"uq\x000}(" + copies + b"u.",
        "an integer of 8 MB": b"\x80\x02\x8b" + struct.pack("<i", 2**23) + b"\x7f" * 2**23 + b".",
        "an integer of 100000 digits": b"L" + b"9" * 100_000 + b"L\n.",
        "a text of 30 MB": b"\x80\x02X" + struct.pack("<I", 30 * 2**20) + b"a" * 30 * 2**20 + b".",
        "a text that says it has 2**62 bytes": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a.",
        "2 million instructions": b"N0" * 10**6 + b"N.",
        "2 million marks": b"(" * 2 * 10**6 + b".",
        "2 million sets": b"\x80\x04" + b"\x8f" * 2 * 10**6 + b".",
        "tuples in tuples": b")" + b"\x85" * 300_000 + b".",
        "lists in lists": b"]" * 300_000 + b"a" * 299_999 + b".",
        "a memo with giant indices": b"N"
        + b"".join(b"r" + struct.pack("<I", 2**31 + i) for i in range(10**5))
        + b".",
        "a name 200000 times": b"\x80\x04\x8c\x09functools\x94\x8c\x07partial\x94"
        + b"h\x00h\x01\x93" * 200_000
        + b".",
        "a dictionary in itself": b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",
        "a list in itself": b"\x80\x02]q\x00h\x00a.",
        "a key of 10 MB": b"}X" + struct.pack("<I", 10 * 2**20) + b"k" * 10 * 2**20 + b"Ns.",
        "a number of 10 MB": b"F" + b"1" * 10 * 2**20 + b"\n.",
    }


def _lies() -> dict[str, bytes]:
    """Tensors that are not what they say."""

    def tensor(shape: bytes, strides: bytes, offset: bytes = b"K\x00") -> bytes:
        return (
            b"\x80\x02}X\x0c\x00\x00\x00projector.wactorch._utils\n_rebuild_tensor_v2\n("
            + STORAGE + offset + shape + strides + b"\x89" + ORDERED + b")RtRs."
        )  # fmt: skip

    big = b"\x8a\x08" + struct.pack("<q", 2**62)
    return {
        "a tensor of 2**124 values": tensor(b"(" + big * 2 + b"t", b"(K\x00K\x00t"),
        "a tensor of 10**10 values in one": tensor(b"(\x8a\x05\x00\xe4\x0bT\x02t", b"(K\x00t"),
        "a tensor past its storage": tensor(b"(K\x20t", b"(K\x01t"),
        "a tensor with a negative offset": tensor(b"(K\x01t", b"(K\x01t", b"J\xff\xff\xff\xff"),
        "a tensor with a giant offset": tensor(b"(K\x01t", b"(K\x01t", big),
        "a tensor of negative sizes": tensor(b"(J\xff\xff\xff\xfft", b"(K\x01t"),
        "a tensor with 100000 axes": tensor(
            b"(" + b"K\x01" * 100_000 + b"t", b"(" + b"K\x01" * 100_000 + b"t"
        ),
        "a tensor with fewer strides than sizes": tensor(b"(K\x01K\x01t", b"(K\x01t"),
        "a tensor of text sizes": tensor(b"(X\x01\x00\x00\x001t", b"(K\x01t"),
        "a tensor of true and false sizes": tensor(b"(\x88t", b"(\x88t"),
        "no dictionary": pickle.dumps([1, 2], 2),
        "numbers for keys": pickle.dumps({1: {2: 3}}, 2),
        "only text": pickle.dumps({"projector.w": "hello"}, 2),
        "nothing": b"\x80\x02}.",
        "empty": b"",
        "no end": b"\x80\x02}",
        "an empty stack": b".",
        "a lone surrogate for a key": b"}X\x03\x00\x00\x00\xed\xa0\x80Ns.",
        "control characters for a key": pickle.dumps({"projector.\x1b[2J\x07\r\n": 1}, 2),
        "an odd number of items": b"}(K\x01u.",
        "unknown instruction": b"\xff.",
        "an extension": b"\x80\x02\x82\x01.",
        "a persistent id that is none": b"K\x01Q.",
        "a buffer out of band": b"\x80\x05\x97.",
    }


def _programs() -> dict[str, bytes]:
    """Programs that create the file `executed` when Python's own unpickler runs them."""
    command = b"S'touch executed'\n"
    return {
        "os.system": b"cos\nsystem\n(" + command + b"tR.",
        "posix.system": b"cposix\nsystem\n(" + command + b"tR.",
        "an instance": b"(" + command + b"ios\nsystem\n.",
        "an object": b"(cos\nsystem\n" + command + b"o.",
        "eval": b'cbuiltins\neval\n(S\'open("executed", "w")\'\ntR.',
        "a new object": b"\x80\x02cos\nsystem\n(" + command + b"t\x81.",
        "an allowed call with a call in it": b"cfunctools\npartial\n(cos\nsystem\n(" + command + b"tRtR.",
        "a state with a call in it": b"cfunctools\npartial\n(cbuiltins\nint\ntR(cos\nsystem\n("
        + command
        + b"tRtb.",
        "torch.load": b"ctorch\nload\n(" + command + b"tR.",
        "pickle.loads": b"cpickle\nloads\n(B\x0a\x00\x00\x00cos\nsystem\ntR.",
        "a dotted name": b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93" + command + b"\x85R.",
        "bitsandbytes": b"cbitsandbytes.nn.modules\nParams4bit\n)R.",
    }


def _odd_tensors() -> dict[str, object]:
    """What may stand in the place of a weight."""
    plain = torch.ones(4, 4)
    return {
        "not a number": torch.full((4, 4), float("nan")),
        "infinite": torch.full((4, 4), float("inf")),
        **{
            str(dtype).removeprefix("torch."): plain.to(dtype)
            for dtype in (
                torch.int8,
                torch.uint8,
                torch.int64,
                torch.bool,
                torch.complex64,
                torch.float8_e4m3fn,
            )
        },
        "quantised": quantised(plain),
        "sparse": plain.to_sparse(),
        "expanded": torch.ones(1, 1).expand(2**15, 2**15),
        "empty": torch.ones(0),
        "a scalar": torch.tensor(1.0),
        "on the meta device": torch.ones(2**15, 2**15, device="meta"),
        "text": "weights",
        "a module": torch.nn.Linear(2, 2),
        "a list": [plain, plain],
        "nested": {"a": {"b": {"c": plain}}},
    }


def quantised(values: torch.Tensor) -> torch.Tensor:
    """The values in 8 bits, as older checkpoints have them: torch warns that it will forget how to make them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(values, 0.1, 0, torch.qint8)


def _archives() -> dict[str, Write]:
    """Zip files that are not what torch writes."""
    sound = pickle.dumps({"projector.w": 1}, 2)

    def zipped(entries: dict[str, bytes], **options) -> Write:
        def write(path: Path) -> None:
            with zipfile.ZipFile(path, "w", **options) as file:
                for name, data in entries.items():
                    file.writestr(name, data)

        return write

    def deflated(path: Path) -> None:
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
            file.open("a/byteorder", "w", force_zip64=True) as entry,
        ):
            for _ in range(256):
                entry.write(bytes(2**20))
        with zipfile.ZipFile(path, "a") as file:
            file.writestr("a/data.pkl", sound)

    def patched(mark: bytes, place: int, value: bytes) -> Write:
        """A sound archive with bytes of a record replaced."""

        def write(path: Path) -> None:
            write_archive(path, sound)
            data = bytearray(path.read_bytes())
            start = data.rindex(mark) + place
            data[start : start + len(value)] = value
            path.write_bytes(data)

        return write

    many = {f"a/data/{index}": b"" for index in range(120_000)}
    directory, end = b"PK\x01\x02", b"PK\x05\x06"
    return {
        "byteorder of 256 MB, deflated": deflated,
        "deflated pickle": zipped({"a/data.pkl": bytes(2**24)}, compression=zipfile.ZIP_DEFLATED),
        "big-endian": zipped({"a/data.pkl": sound, "a/byteorder": b"big"}),
        "byteorder of 10 MB": zipped({"a/data.pkl": sound, "a/byteorder": bytes(10 * 2**20)}),
        "pickle of 70 MB": zipped({"a/data.pkl": b"N" * 70 * 2**20}),
        "120000 entries": zipped({"a/data.pkl": sound, **many}),
        "no entries": zipped({}),
        "two pickles": zipped({"a/data.pkl": sound, "b/data.pkl": sound}),
        "TorchScript": zipped({"a/data.pkl": sound, "a/constants.pkl": sound}),
        "names that climb": zipped({"../../data.pkl": sound, "a/data.pkl": sound, "../x": b""}),
        "a storage that is missing": zipped({"a/data.pkl": _lies()["a tensor past its storage"]}),
        "a directory that says 4 GB": patched(end, 12, b"\xf0\xff\xff\xff"),
        "a directory past the end": patched(end, 16, b"\xf0\xff\xff\x7f"),
        "65534 entries that are not there": patched(end, 8, b"\xfe\xff\xfe\xff"),
        "an entry of 4 GB": patched(directory, 20, b"\xf0\xff\xff\xff\xf0\xff\xff\xff"),
        "an entry before the file": patched(directory, 42, b"\xf0\xff\xff\x7f"),
        "an encrypted entry": patched(directory, 8, b"\x01\x00"),
        "an entry in an unknown compression": patched(directory, 10, b"\x63\x00"),
        "only the first bytes": lambda path: path.write_bytes(b"PK\x03\x04"),
        "only zeros after the first bytes": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(10_000)),
    }


def _damaged(state: dict, random: Random) -> Iterator[tuple[str, Write]]:
    """A sound file, cut short or with bytes changed."""

    def cut(path: Path, part: float) -> None:
        torch.save({"model": state}, path)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * part)])

    def changed(path: Path, places: list[float], values: list[int]) -> None:
        torch.save({"model": state}, path)
        with zipfile.ZipFile(path) as file:
            name = next(entry for entry in file.namelist() if entry.endswith("/data.pkl"))
            content = {entry: file.read(entry) for entry in file.namelist()}
        program = bytearray(content[name])
        for place, value in zip(places, values, strict=True):
            program[int(len(program) * place)] = value
        content[name] = bytes(program)
        with zipfile.ZipFile(path, "w") as file:
            for entry, data in content.items():
                file.writestr(entry, data)

    for part in (0.0, 0.01, 0.5, 0.99, 0.9999):
        yield f"archive: cut after {part:.2%}", lambda path, part=part: cut(path, part)
    codes = [ord(opcode.code) for opcode in pickletools.opcodes]
    for number in range(40):
        places = [random.random() for _ in range(random.randint(1, 4))]
        values = [random.choice(codes) for _ in places]
        yield f"pickle: damaged {number}", lambda path, p=places, v=values: changed(path, p, v)


def nested_state(flat: dict) -> dict:
    """A VLM's state under the official nested keys."""
    nested: dict = {"projector": OrderedDict(), "llm_backbone": OrderedDict()}
    for name, tensor in flat.items():
        part, _, rest = name.partition(".")
        if part == "projector":
            nested["projector"][rest] = tensor
        elif part == "llm":
            nested["llm_backbone"][f"llm.{rest}"] = tensor
    return nested
