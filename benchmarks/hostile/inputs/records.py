"""LLaVA data sets that were made to do harm: lines without end, nesting, paths that lead out, images that are none."""

import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TALK = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A cup."}]
IMAGES: tuple[Any, ...] = (
    *(
        "../../../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a\x00b",
        "~/.bashrc",
        "x" * 5000,
        "\ud800.png",
        7,
    ),
    *(
        ["0.png"],
        {"path": "0.png"},
        True,
        "file:///etc/passwd",
        "http://127.0.0.1:1/x.png",
        "0.png/../0.png",
        "0.png/",
    ),
    *("C:\\x", "\u001b[2J.png", " 0.png"),
)
"""What a record may call its image."""


def hostile_records(folder: Path, seed: int, share: float = 1.0) -> Iterator[tuple[str, Path]]:
    """Write hostile data sets one after another.

    Args:
        folder: an empty folder.
        seed: not used; every data set is written out.
        share: how many of them are written, each so many-th.

    Yields:
        (what is wrong, its path).
    """
    for number, (name, data) in itertools.islice(enumerate(_files()), 0, None, round(1 / share)):
        path = folder / str(number) / "hostile.json"
        path.parent.mkdir(parents=True)
        if isinstance(data, bytes):
            path.write_bytes(data)
        else:
            data(path)
        yield name, path


def _files() -> Iterator[tuple[str, bytes | Callable[[Path], object]]]:
    sound = {"id": "0", "image": "0.png", "conversations": TALK}
    for image in IMAGES:
        yield f"image {image!r:.40}", json.dumps([{**sound, "image": image}] * 3 + [sound] * 20).encode()
    for what, record in {
        "id of 10^400": {**sound, "id": 10**400},
        "id as list": {**sound, "id": []},
        "id with signs": {**sound, "id": "\x1b[2J\x07"},
        "no turns": {**sound, "conversations": []},
        "turns as text": {**sound, "conversations": "x"},
        "a turn as text": {**sound, "conversations": ["x", "y"]},
        "turns of nobody": {**sound, "conversations": [{}, {}]},
        "from with signs": {**sound, "conversations": [{"from": "\x1b[2J", "value": ""}, TALK[1]]},
        "a long turn": {**sound, "conversations": [TALK[0], {"from": "gpt", "value": "a " * 500_000}]},
        "one long word": {**sound, "conversations": [TALK[0], {"from": "gpt", "value": "a" * 3_000_000}]},
        "many turns": {**sound, "conversations": TALK * 20_000},
        "special tokens": {
            **sound,
            "conversations": [TALK[0], {"from": "gpt", "value": "<|endoftext|><|padding|><image>" * 1000}],
        },
        "a surrogate": {**sound, "conversations": [TALK[0], {"from": "gpt", "value": "\ud800"}]},
        "zero bytes": {**sound, "conversations": [TALK[0], {"from": "gpt", "value": "\0" * 1000}]},
        "300,000 other keys": {**sound, **{f"k{i}": 0 for i in range(300_000)}},
    }.items():
        yield what, json.dumps([record, sound, sound, sound]).encode()
    good = json.dumps(sound).encode()
    for what, data in {
        "nesting": b"[" * 200_000,
        "nesting inside": b'[{"id": ' + b"[" * 200_000 + b"]" * 200_000 + b"}]",
        "digits": b'[{"id": ' + b"9" * 100_000 + b"}]",
        "not a number": b'[{"id": NaN}]',
        "an open text": _large(lambda: b'[{"id": "' + b"x" * 30_000_000),
        "commas": _large(lambda: b"[" + b"," * 10_000_000),
        "braces": b"{" * 1_000_000,
        "lines of braces": b"{\n" * 500_000,
        "empty objects": b"[" + b"{}," * 500_000 + b"{}]",
        "white space": _large(lambda: b" " * 80_000_000),
        "zero bytes": bytes(1_000_000),
        "keys twice": b'[{"id": 1, "id": 2, "conversations": []}]',
        "UTF-16": json.dumps([sound]).encode("utf-16"),
        "Latin-1": '[{"id": "\xe9"}]'.encode("latin-1"),
        "a byte order mark": b"\xef\xbb\xbf[" + good + b"]",
        "two arrays": b"[" + good + b"][" + good + b"]",
        "one object": good,
        "a number": b"1",
        "a text": b'"x"',
        "empty lines": b"\n" * 5_000_000 + good,
        "carriage returns": good + b"\r" + good,
        "half a line": good + b"\n" + good[:40],
        "a line of 300 MB": _large(lambda: b'{"id": "' + b"x" * 300_000_000 + b'"}\n'),
        "a record of 100 MB": _large(lambda: b'[{"id": "' + b"x" * 100_000_000 + b'"}]'),
        "backslashes": _large(lambda: b'[{"id": "' + b"\\" * 10_000_001 + b'"}]'),
        "a million short lines": b"1\n" * 1_000_000,
    }.items():
        yield what, data
    yield "a folder", Path.mkdir
    yield "a pipe", os.mkfifo
    yield "a device", lambda path: path.symlink_to("/dev/zero")
    yield "20 GB of nothing", _sparse


def _large(make: Callable[[], bytes]) -> Callable[[Path], object]:
    """Content that is made when it is written, and not kept."""
    return lambda path: path.write_bytes(make())


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"[")
        file.truncate(20 << 30)
