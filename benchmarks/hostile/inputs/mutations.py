"""Sound bytes made unsound: flipped, cut, spliced; JSON and safetensors also by what they mean."""

import base64
import io
import json
import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

Mutated = tuple[str, bytes]
"""What was done, and what came of it."""

EXTREMES = (
    *("null", "true", "false", "0", "-1", "1", "0.5", "-0.0", "1e308", "-1e308", "1e-308", "1e400"),
    *("NaN", "Infinity", "-Infinity", "9" * 19, "9" * 5000, "1" + "0" * 400, "2147483648", "-2147483649"),
    *("1000000", "100000000", '""', '" "', '"x"', '"1"', '"NaN"', '"Infinity"', '"\\u0000"', '"\\ud800"'),
    *('"\\u001b[31mred\\u0007"', '"a\\r\\nb"', '"\\u202egnp"', '"../../../../etc/passwd"', '"/etc/passwd"'),
    *(
        '"~/.ssh/id_rsa"',
        '"C:\\\\x"',
        '"file:///etc/passwd"',
        '"' + "A" * 100_000 + '"',
        '"' + "\u56fe" * 90 + '"',
    ),
    *("[]", "{}", "[[]]", "[null]", "[1, 2, 3]", '{"a": 1}', '{"__float__": "NaN"}', '["x", "y"]'),
    "[" * 100_000 + "]" * 100_000,
    '{"a":' * 5000 + "1" + "}" * 5000,
    "[" + "0," * 300_000 + "0]",
)
"""JSON texts that a value is replaced by."""
_MARK = "\ue000raw\ue000"
"""A text that stands for JSON that Python has no value for."""


def mutate_bytes(data: bytes, rng: random.Random) -> Mutated:
    """Change bytes without looking at what they mean."""
    if not data:
        return _other(data, rng)
    return rng.choice(_BYTE_CHANGES)(data, rng)


def mutate_json(data: bytes, rng: random.Random) -> Mutated:
    """Change a JSON document: mostly one value, key or shape of it, sometimes its text.

    Args:
        data: sound JSON in UTF-8.
        rng: where chances come from.
    """
    if rng.random() < 0.2:
        what, text = rng.choice(_TEXT_CHANGES)(data, rng)
        return f"json text {what}", text
    try:
        value = json.loads(data)
    except ValueError:  # a line of JSONL among others
        return mutate_bytes(data, rng)
    what, text = _mutate_value(value, rng)
    return f"json {what}", text.encode("utf-8", errors="surrogatepass")


def mutate_json_lines(data: bytes, rng: random.Random) -> Mutated:
    """Change one line of JSONL."""
    lines = data.splitlines()
    place = rng.randrange(len(lines))
    what, lines[place] = mutate_json(lines[place], rng)
    return f"line {place} {what}", b"\n".join(lines) + b"\n"


def mutate_safetensors(data: bytes, rng: random.Random) -> Mutated:
    """Change the header, the description inside it, the length before it, or the numbers after it."""
    (size,) = struct.unpack("<Q", data[:8])
    header, body = data[8 : 8 + size], data[8 + size :]
    way = rng.choice(("header", "description", "description", "description", "length", "numbers", "bytes"))
    if way == "bytes":
        return mutate_bytes(data, rng)
    if way == "length":
        length = rng.choice((0, 1, size - 1, size + 1, len(data), 2**31, 2**63 - 1, 2**64 - 1, 10**8))
        return f"length {length}", struct.pack("<Q", length) + header + body
    if way == "numbers":
        fill = rng.choice(
            (b"\xff\xff\xff\xff", b"\x00\x00\x80\x7f", b"\x00\x00\x00\x00", b"\x00\x00\xc0\x7f")
        )
        start = rng.randrange(max(4, len(body)) // 4) * 4
        count = max(1, min((len(body) - start) // 4, rng.choice((1, 16, 10**9))))
        changed = body[:start] + fill * count + body[start + 4 * count :]
        return f"numbers {fill.hex()} × {count}", data[: 8 + size] + changed
    said = json.loads(header)
    notes = [key for key, value in said.get("__metadata__", {}).items() if value.startswith("{")]
    if way == "description" and notes:
        key = rng.choice(notes)
        what, text = _mutate_value(json.loads(said["__metadata__"][key]), rng)
        said["__metadata__"][key] = text
        packed = json.dumps(said, ensure_ascii=True).encode()
        return f"description {what}", struct.pack("<Q", len(packed)) + packed + body
    what, text = mutate_json(header, rng)
    return f"header {what}", struct.pack("<Q", len(text)) + text + body


def mutate_sidecar(data: bytes, rng: random.Random) -> Mutated:
    """Change a figure's sidecar: its JSON, or one of the arrays packed into it."""
    if rng.random() < 0.6:
        return mutate_json(data, rng)
    document = json.loads(data)
    packed = base64.b64decode(document["arrays"])
    if rng.random() < 0.3:
        what, packed = mutate_bytes(packed, rng)
    else:
        with np.load(io.BytesIO(packed)) as loaded:
            arrays = {name: loaded[name] for name in loaded.files}
        name = rng.choice(sorted(arrays))
        what, changed = _mutate_array(arrays.pop(name), rng)
        arrays |= {} if changed is None else {name: changed}
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)
        what, packed = f"{name} {what}", stream.getvalue()
    document["arrays"] = base64.b64encode(packed).decode()
    return f"arrays {what}", json.dumps(document).encode()


def mutate_nothing(data: bytes, rng: random.Random) -> Mutated:
    """For sound files."""
    return "sound", data


def _flip(data: bytes, rng: random.Random) -> Mutated:
    changed, count = bytearray(data), rng.choice((1, 1, 4, 32))
    for _ in range(count):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return f"{count} bits flipped", bytes(changed)


def _cut(data: bytes, rng: random.Random) -> Mutated:
    end = rng.choice((0, 1, 7, 8, rng.randrange(len(data)), rng.randrange(len(data)), len(data) - 1))
    return f"cut after {end}", data[:end]


def _splice(data: bytes, rng: random.Random) -> Mutated:
    size = min(len(data), rng.choice((1, 4, 64, 1024)))
    source, target = rng.randrange(len(data) - size + 1), rng.randrange(len(data) - size + 1)
    return f"{size} bytes spliced", data[:target] + data[source : source + size] + data[target + size :]


def _insert(data: bytes, rng: random.Random) -> Mutated:
    size, place = rng.choice((1, 16, 4096)), rng.randrange(len(data))
    return f"{size} bytes put in", data[:place] + rng.randbytes(size) + data[place:]


def _drop(data: bytes, rng: random.Random) -> Mutated:
    size, place = rng.choice((1, 16, 512)), rng.randrange(len(data))
    return f"{size} bytes left out", data[:place] + data[place + size :]


def _number(data: bytes, rng: random.Random) -> Mutated:
    size, place = rng.choice((2, 4, 8)), rng.randrange(min(len(data), rng.choice((64, 1 << 30))))
    value = rng.choice((b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\x00" * 8, b"\x80" + b"\x00" * 7))[:size]
    return f"{size} bytes {value.hex()}", data[:place] + value + data[place + size :]


def _more(data: bytes, rng: random.Random) -> Mutated:
    more = rng.choice((data, b"\x00" * (1 << 20), rng.randbytes(100)))
    return f"{len(more)} bytes more", data + more


def _other(data: bytes, rng: random.Random) -> Mutated:
    other = rng.choice(
        (b"", b"\n", b"\x00", b"null", b"[]", b'"x"', b"\x80\x05.", b"PK\x03\x04", rng.randbytes(999))
    )
    return f"replaced by {other[:8]!r}", other


_BYTE_CHANGES: tuple[Callable[[bytes, random.Random], Mutated], ...] = (
    *(_flip, _flip, _cut, _cut, _splice, _insert, _drop, _number, _number, _more, _other),
)


def _as_other_text(data: bytes, rng: random.Random) -> Mutated:
    encoding = rng.choice(("utf-8-sig", "utf-16", "utf-32", "cp037"))
    return encoding, data.decode().encode(encoding)


def _with_extra(data: bytes, rng: random.Random) -> Mutated:
    extra = rng.choice((b",", b"}", b"\x00", b"{}", b"/* x */", b"\xff", b"NaN", b" " * 100_000))
    return f"then {extra[:8]!r}", data + extra


def _with_root(data: bytes, rng: random.Random) -> Mutated:
    root = rng.choice((b"[%s]", b'{"x": %s}', b"%s\n%s", b'"%s'))
    return f"root {root!r}", root.replace(b"%s", data)


_TEXT_CHANGES = (_as_other_text, _with_extra, _with_root, _flip, _cut, _other, _drop)


def _mutate_value(value: Any, rng: random.Random) -> tuple[str, str]:
    """One change of a JSON value, as text."""
    places = list(_places(value))
    holder, key, path = rng.choice(places) if places else (None, None, "")
    raw = rng.choice(EXTREMES)
    if holder is None:
        return f"root {raw[:20]}", raw
    old, shown = holder[key], f"{path} "
    ways = ["extreme"] * 6 + ["drop", "wrap", "swap", "repeat", "number", "twice", "more"]
    way = rng.choice(ways)
    text = None
    if way == "drop":
        del holder[key]
    elif way == "wrap":
        holder[key] = rng.choice(([old], {"x": old}, [old, old]))
    elif way == "swap":
        other, name, _ = rng.choice(places)
        holder[key] = json.loads(json.dumps(other[name]))
    elif way == "repeat" and isinstance(old, list | str) and old:
        holder[key] = old * rng.choice((2, 1000))
    elif way == "number" and isinstance(old, int | float):
        holder[key] = rng.choice(
            (-old, old + 1, old - 1, old * 2, old * 10**6, old / 3, float(old), str(old))
        )
    elif way == "twice" and isinstance(holder, dict):
        text = f"{json.dumps(old)}, {json.dumps(key)}: {rng.choice((json.dumps(old), raw))}"
    elif way == "more" and isinstance(holder, dict):
        text = f"{json.dumps(old)}, {rng.choice(EXTREMES[26:36])}: {raw}"
    else:
        way, text = f"extreme {raw[:20]}", raw
    if text is not None:
        holder[key] = _MARK
    dumped = json.dumps(value, ensure_ascii=True)
    return shown + way, dumped.replace(json.dumps(_MARK, ensure_ascii=True), text or "")


def _places(value: Any, path: str = ""):
    """Every (holder, key, path) below a JSON value."""
    if isinstance(value, dict | list):
        for key in list(value)[:50] if isinstance(value, dict) else range(min(len(value), 50)):
            below = f"{path}.{key}" if isinstance(value, dict) else f"{path}[{key}]"
            yield value, key, below
            yield from _places(value[key], below)


def _mutate_array(array: np.ndarray, rng: random.Random) -> tuple[str, np.ndarray | None]:
    ways: dict[str, Callable[[], np.ndarray | None]] = {
        "left out": lambda: None,
        "nan": lambda: np.full(array.shape, np.nan, dtype=np.float32),
        "infinite": lambda: np.full(array.shape, np.inf, dtype=np.float64),
        "of text": lambda: np.full(array.shape, "x"),
        "complex": lambda: array.astype(np.complex64),
        "of integers": lambda: np.full(array.shape, 2**62, dtype=np.int64),
        "flat": lambda: array.reshape(-1),
        "empty": lambda: array[:0],
        "one number": lambda: np.array(1.0),
        "deeper": lambda: array[None],
        "longer": lambda: np.concatenate([array, array]) if array.ndim else array,
        "minus 10^30": lambda: np.full(array.shape, -1e30, dtype=np.float32),
        "of many zeros": lambda: np.zeros(10**7, dtype=np.uint8),
    }
    way = rng.choice(sorted(ways))
    return way, ways[way]()
