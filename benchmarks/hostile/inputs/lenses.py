"""Lens files that were made to do harm: sizes without end, descriptions that lie, numbers that are none."""

import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emma_viz.checkpoints.sources import BUNDLED

CLAIMS: dict[str, dict[str, Any]] = {
    "native": {
        "parts.head.sizes.decoder.feature_widths": [[10**7], [], "x", [0], [-1], [2**63]],
        "parts.tap_layers": [[], [10**9], [-5], ["x"], [0] * 50_000, None],
        "parts.head": [None, [], "released", {"form": "evil"}],
    },
    "tuned": {
        "parts.sizes.width": [10**7, 0, -1, "x", 10**18],
        "parts.sizes.n_layers": [10**6, 0, "x"],
        "parts.sizes": [None, [], {}, 7],
    },
    "ridge": {
        "info.layers": [[], list(range(100_000)), [0, 0, 0, 0], [-9], ["x"], [1.5], None],
        "info.patch": [0, -14, 10**6, "14", 2**40, 1.5, None],
        "info.grid": [[0, 0], [-1, 4], [10**6, 10**6], [4], "4x4", None],
        "info.kind": ["evil", "", None, "\u001b[2J", ["ridge"], "native", "tuned"],
        "info.quality": [
            None,
            [[]],
            [{"layer": 0}],
            "good",
            [{"layer": 0, "r2": "NaN", "psnr": 0, "ssim": 0}],
        ],
        "info.notes": ["x" * 10**6, [None], ["\u001b]0;owned\u0007"], 7],
        "info.model_name": ["../../x", "", None, "\u202ecobra", "x" * 10**5],
        "info.model_fingerprint": ["", None, "/etc/passwd", "\u0000"],
        "info.site": ["__class__", "", None, "resid_post\n", "../x"],
        "schema": [0, 99, "1", None, True, 1.0, 10**30],
    },
}
"""Kind of lens → place in its description → what is claimed there."""


def hostile_lenses(folder: Path, seed: int) -> Iterator[tuple[str, Path]]:
    """Write hostile lens files one after another.

    Args:
        folder: an empty folder.
        seed: of the damage that is drawn by chance.

    Yields:
        (what is wrong, its path).
    """
    made = [*_claims(), *_tensors(seed), *_headers()]
    for number, (name, data) in enumerate(made):
        path = folder / str(number) / "hostile.lens"
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        yield name, path


def _sound(kind: str) -> tuple[dict[str, Any], bytes]:
    data = (BUNDLED / "emma-v1-pocket" / f"{kind}.lens").read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def _file(header: Any, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def _claims() -> Iterator[tuple[str, bytes]]:
    for kind, places in CLAIMS.items():
        for place, values in places.items():
            for value in values:
                header, body = _sound(kind)
                (key,) = header["__metadata__"]
                said = json.loads(header["__metadata__"][key])
                *above, last = place.split(".")
                holder = said
                for name in above:
                    holder = holder.setdefault(name, {})
                holder[last] = value
                header["__metadata__"][key] = json.dumps(said)
                yield f"{kind}: {place} is {json.dumps(value)[:40]}", _file(header, body)


def _tensors(seed: int) -> Iterator[tuple[str, bytes]]:
    rng = random.Random(seed)
    for kind in CLAIMS:
        header, body = _sound(kind)
        name = rng.choice(sorted(set(header) - {"__metadata__"}))
        for what, change in {
            "shape": [[1] * 100, [2**40, 0], [2**31, 2**31], [], [-1]],
            "dtype": ["I64", "F8_E4M3", "BOOL", "C64", "EVIL", None],
            "data_offsets": [[0, 0], [0, 2**63], [8, 4], [0, len(body) + 1]],
        }.items():
            for value in change:
                changed = {**header, name: {**header[name], what: value}}
                yield f"{kind}: {what} of a tensor is {value!r:.30}", _file(changed, body)
        for value in (b"\x00\x7e", b"\x00\x7c", b"\xff\x7b"):  # half precision: not a number, infinite, large
            yield f"{kind}: numbers {value.hex()}", _file(header, value * (len(body) // 2))
        more = {f"more-{number}": header[name] for number in range(50_000)}
        yield f"{kind}: 50,000 tensors in one place", _file({**header, **more}, body)


def _headers() -> Iterator[tuple[str, bytes]]:
    header, body = _sound("ridge")
    (key,) = header["__metadata__"]
    for what, notes in (
        ("a list", []),
        ("a text", "x"),
        ("nothing", None),
        ("numbers", {key: 7}),
        ("empty", {}),
        ("no JSON", {key: "{"}),
        ("deep JSON", {key: "[" * 100_000 + "]" * 100_000}),
        ("long digits", {key: '{"schema": ' + "9" * 5000 + "}"}),
        ("a surrogate", {key: '{"schema": "\\ud800"}'}),
        ("a list inside", {key: "[1]"}),
        ("large", {key: " " * 50_000_000}),
    ):
        yield f"description: {what}", _file({**header, "__metadata__": notes}, body)
    yield "header of 10^12 bytes", struct.pack("<Q", 10**12) + b"{}"
    yield "header: deep", _file(b'{"a":' * 50_000 + b"1" + b"}" * 50_000, body)
    yield "header: a list", _file(b"[1]", body)
    yield "header: twice the key", _file(b'{"weight":{},"weight":{}}', body)
    yield "a pickle", b"\x80\x04cos\nsystem\n(S'touch executed'\ntR."
