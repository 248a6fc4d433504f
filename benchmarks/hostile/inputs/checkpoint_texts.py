"""Configs, shard indexes, headers of safetensors and tokenizers that were made to do harm."""

import json
import os
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

Text = Callable[[], bytes]
"""Makes a text when it is needed: some are large."""

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2, 7, 10**6, 10**9, 2**63, 10**30, -5, 0.5, 1e308, float("nan"), float("inf"),
    "", "x", "evil", "..", "\ud800", "\x1b[2J\x07", "a" * 10_000, [], [[]], [1, "x"], [0] * 1000, {}, {"a": {"b": 1}},
)  # fmt: skip
"""What may stand where another value was expected."""


def changed_configs(config: dict[str, Any], seed: int, *, each: int) -> Iterator[tuple[str, Text]]:
    """A sound config with one value replaced, removed, or added.

    Args:
        config: content of a `config.json`.
        seed: of which values are put where.
        each: how many for every field.

    Yields:
        (what is wrong, the text).
    """
    random = Random(seed)
    for place in list(_places(config)):
        said = ".".join(map(str, place))
        for value in random.sample(VALUES, each):
            yield f"config: {said} = {_short(value)}", _text(partial(_put, config, place, value))
        yield f"config: without {said}", _text(partial(_put, config, place, _GONE))
    yield "config: an unknown field", _text({**config, "emma_viz": {**config.get("emma_viz", {}), "evil": 1}})


def odd_texts(sound: bytes) -> dict[str, Callable[[Path], object]]:
    """Files that stand where JSON was expected, whatever it should say."""

    def sparse(path: Path) -> None:
        with path.open("wb") as file:
            file.write(b"{")
            file.truncate(20 * 2**30)

    texts: dict[str, bytes | Text] = {
        "empty": b"",
        "a list": b"[1, 2]",
        "a number": b"7",
        "null": b"null",
        "cut short": sound[: len(sound) // 2],
        "with more behind it": sound + b"}",
        "100000 deep": b'{"model":' + b"[" * 100_000,
        "100000 deep and closed": b'{"model":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "an integer of 5000 digits": b'{"model": {}, "d_model": ' + b"9" * 5000 + b"}",
        "every key twice": sound.rstrip()[:-1] + b"," + sound.lstrip()[1:],
        "a byte order mark": b"\xef\xbb\xbf" + sound,
        "UTF-16": sound.decode().encode("utf-16"),
        "not text": bytes(range(256)),
        "zeros": bytes(10_000),
        "3 million values": b'{"model": [' + b"1," * 3_000_000 + b"1]}",
        "a text without end": b'{"model": "' + b"\\\\" * 10**6,
        "a million keys": lambda: b"{" + b",".join(b'"%d":0' % number for number in range(10**6)) + b"}",
        "40 MB": lambda: b'{"model": "' + b"a" * 40 * 2**20 + b'"}',
    }

    def write(path: Path, data: bytes | Text) -> None:
        path.write_bytes(data if isinstance(data, bytes) else data())

    writes = {name: partial(write, data=data) for name, data in texts.items()}
    return writes | {
        "20 GB of nothing": sparse,
        "a pipe": os.mkfifo,
        "a folder": Path.mkdir,
        "a link to a file outside": lambda path: path.symlink_to("/etc/passwd"),
        "a link to a device": lambda path: path.symlink_to("/dev/zero"),
        "a link to itself": lambda path: path.symlink_to(path.name),
        "a link to nothing": lambda path: path.symlink_to("nowhere"),
    }


def indexes(keys: list[str], shard: str) -> dict[str, Text]:
    """Indexes of shards: what is wrong → the text. A sound shard is beside them."""

    def mapped(value: Any) -> Text:
        return _text(lambda: {"metadata": {}, "weight_map": value() if callable(value) else value})

    sound = dict.fromkeys(keys, shard)
    return {
        "names itself": mapped(dict.fromkeys(keys, "model.safetensors.index.json")),
        "names another index": mapped(dict.fromkeys(keys, "other.index.json")),
        "climbs": mapped(dict.fromkeys(keys, "../victim/model.safetensors")),
        "an absolute name": mapped(dict.fromkeys(keys, "/etc/passwd")),
        "a hidden name": mapped(dict.fromkeys(keys, ".hidden")),
        "a name of 300 bytes": mapped(dict.fromkeys(keys, "é" * 150)),
        "a link out": mapped(dict.fromkeys(keys, "link.safetensors")),
        "a pipe": mapped(dict.fromkeys(keys, "pipe")),
        "5000 shards": mapped({**sound, **{f"k{number}": f"s{number}" for number in range(5000)}}),
        "a shard that is not there": mapped({**sound, keys[0]: "gone.safetensors"}),
        "a tensor that no shard has": mapped({**sound, "backbone.extra": shard}),
        "no map": _text({"metadata": {}}),
        "a list for a map": mapped([shard]),
        "a number for a shard": mapped({**sound, keys[0]: 7}),
        "a lone surrogate": mapped({**sound, keys[0]: "\ud800"}),
        "an empty map": mapped({}),
        "a million keys": mapped(lambda: {f"k{number}": shard for number in range(10**6)}),
    }


def headers() -> dict[str, tuple[Any, int]]:
    """Headers of safetensors: what is wrong → (content, what makes it, or text; bytes of values behind it)."""

    def one(**changes: Any) -> dict[str, Any]:
        return {"projector.w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}

    sound = one()
    return {
        "a list": ([1], 0),
        "metadata is a list": ({"__metadata__": ["a"], **sound}, 8),
        "metadata of numbers": ({"__metadata__": {"config.json": 1}, **sound}, 8),
        "metadata with a damaged config": ({"__metadata__": {"config.json": "{"}, **sound}, 8),
        "metadata with a list for a config": ({"__metadata__": {"config.json": "[]"}, **sound}, 8),
        "metadata with a deep config": ({"__metadata__": {"config.json": "[" * 10**5}, **sound}, 8),
        **{
            f"the type {name}": (one(dtype=name, data_offsets=[0, size]), size)
            for name, size in (("I8", 2), ("U8", 2), ("I64", 16), ("F8_E4M3", 2), ("F8_E8M0", 2), ("F4", 1),
                               ("C64", 16), ("BOOL", 2), ("X99", 8))
        },
        "no type": ({"projector.w": {"shape": [2], "data_offsets": [0, 8]}}, 8),
        "a number for a type": (one(dtype=7), 8),
        "a negative size": (one(shape=[-2]), 8),
        "a size of 10**30": (one(shape=[10**30]), 8),
        "a size that is no integer": (one(shape=[2.0]), 8),
        "sizes that are text": (one(shape="2"), 8),
        "100000 sizes": (one(shape=[1] * 100_000), 8),
        "offsets past the end": (one(data_offsets=[0, 2**50], shape=[2**48]), 8),
        "offsets the wrong way": (one(data_offsets=[8, 0]), 8),
        "three offsets": (one(data_offsets=[0, 8, 16]), 8),
        "offsets of the wrong size": (one(data_offsets=[0, 4]), 8),
        "tensors that overlap": ({**sound, "projector.v": sound["projector.w"]}, 8),
        "a tensor that is text": ({"projector.w": "hello"}, 8),
        "a lone surrogate for a name": ({"projector.\ud800": sound["projector.w"]}, 8),
        "control characters for a name": ({"projector.\x1b[2J": sound["projector.w"]}, 8),
        "a name of a million signs": ({"projector." + "w" * 10**6: sound["projector.w"]}, 8),
        "an empty name": ({"": sound["projector.w"]}, 8),
        "no tensors": ({}, 0),
        "200000 empty tensors": (
            lambda: {f"projector.{n}": one(shape=[0], data_offsets=[0, 0])["projector.w"] for n in range(200_000)}, 0,
        ),
        "deep": ('{"a":' + "[" * 200_000, 0),
        "a key twice": ('{"a": 1, "a": 2}', 0),
        "no JSON": ("{]", 0),
    }  # fmt: skip


def safetensors(content: Any, size: int) -> bytes:
    """A file of that header, with zeros for values."""
    text = content.encode() if isinstance(content, str) else _text(content)()
    return len(text).to_bytes(8, "little") + text + bytes(size)


def tokenizers(sound: bytes) -> dict[str, Text]:
    """Tokenizers that take long, or hold what they may not: what is wrong → the text."""
    value = json.loads(sound)
    regex = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    grow = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    vocabulary = value["model"]["vocab"]
    return {
        "a pattern that takes for ever": _text({**value, "pre_tokenizer": regex}),
        "text that doubles 60 times": _text(
            {**value, "normalizer": {"type": "Sequence", "normalizers": [grow] * 60}}
        ),
        "an id of 4 billion": _text(
            {**value, "model": {**value["model"], "vocab": {**vocabulary, "evil": 2**32 - 1}}}
        ),
        "an id of 10**30": _text(
            {**value, "model": {**value["model"], "vocab": {**vocabulary, "evil": 10**30}}}
        ),
        "a negative id": _text({**value, "model": {**value["model"], "vocab": {**vocabulary, "evil": -1}}}),
        "merges of what is not there": _text({**value, "model": {**value["model"], "merges": ["évil évil"]}}),
        "no vocabulary": _text({**value, "model": {"type": "BPE", "vocab": {}, "merges": []}}),
        "a million words": _text(
            lambda: {**value, "model": {**value["model"], "vocab": {f"w{n}": n for n in range(10**6)}}}
        ),
        "another kind of model": _text(
            {**value, "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}
        ),
        "100000 added tokens": _text(
            lambda: {
                **value,
                "added_tokens": [
                    {**value["added_tokens"][0], "id": n, "content": f"t{n}"} for n in range(10**5)
                ],
            }
        ),
    }


class _Gone:
    """Stands for a field that is taken out."""


_GONE = _Gone()


def _places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in nested objects and lists; of a list the first item's."""
    pairs = (
        value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    )
    for key, item in pairs:
        yield (*before, key)
        yield from _places(item, (*before, key))


def _put(config: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = deepcopy(config)
    owner: Any = changed
    for key in place[:-1]:
        owner = owner[key]
    if value is _GONE:
        del owner[place[-1]]
    else:
        owner[place[-1]] = value
    return changed


def _text(value: Any) -> Text:
    """The JSON of a value, or of what makes it."""
    return lambda: json.dumps(value() if callable(value) else value, ensure_ascii=True).encode()


def _short(value: Any) -> str:
    return ascii(value)[:30]
