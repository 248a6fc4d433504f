"""Study folders that were made to do harm, each once: names that lead elsewhere, links, bombs, claims, contradictions.

A sound study is made first, of random numbers and without a model; each hostile one is a copy with one thing wrong. A
folder `victim` beside them holds files that nobody may read, change or remove.
"""

import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image

from emma_viz.capture import HookReport, Trace
from emma_viz.capture.trace import Sampling
from emma_viz.data import Geometry, image_hash
from emma_viz.data.provenance import ModelInfo
from emma_viz.lens.info import LensInfo
from emma_viz.maps import Decoding
from emma_viz.study import open_study

ENTRY = "entries/photo/entry.json"
TRACE = "entries/photo/data-00000000/000000/trace.json"
TENSORS = "entries/photo/data-00000000/000000/tensors.safetensors"
SIDE, PATCH, LAYERS, WIDTH = 17, 8, (-1, 0, 2), 5

ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**63,
    1e308,
    "x",
    "",
    [],
    {},
    [[]],
    "\x1b[2J",
    "\udc80",
    "../victim",
    [None],
)
"""What any value may be replaced by."""
Harm = Callable[[Path], object]


def hostile_studies(folder: Path, seed: int, share: float = 1.0) -> Iterator[tuple[str, Path]]:
    """Write hostile studies one after another.

    Args:
        folder: an empty folder.
        seed: of which kinds are drawn, and of the numbers in the sound study.
        share: how many of the kinds are written, drawn by chance.

    Yields:
        (what is wrong, the study's folder). A study may be removed when it was tried.
    """
    sound, victim = folder / "sound", folder / "victim"
    make_sound(sound, seed)
    (victim / "000000").mkdir(parents=True)
    (victim / "thesis.tex").write_text("years of work")
    Image.new("RGB", (30, 20), "red").save(victim / "private.png")
    random = Random(seed)
    for number, (name, harm) in enumerate(_kinds(sound, victim)):
        if random.random() < share:
            path = folder / f"{number:04d}" / "study"
            shutil.copytree(sound, path)
            harm(path)
            yield name, path


def make_sound(path: Path, seed: int) -> None:
    """A study of one image with states, an answer, decoded pixels and a name, that nothing is wrong with."""
    draw = np.random.default_rng(seed)
    image = Image.fromarray(draw.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    model = ModelInfo(
        name="tiny", source="memory", family="emma", fingerprint="0f" * 16, dtype="float32", n_layer=3, d_model=WIDTH,
        ssm="mamba1", grid=(2, 2), prompt_style="zephyr", taps=(0, 1),
    )  # fmt: skip
    geometry = (Geometry(image_size=image.size, strategy="letterbox", size=SIDE, patch=PATCH),)
    views = draw.integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)
    same: dict[str, Any] = {
        "model": model, "geometry": geometry, "views": views, "images": (image,), "image_hashes": (image_hash(image),),
        "prompts": ("What is it?",), "answers": ("A cup.",),
    }  # fmt: skip
    trace = Trace(
        sites=("resid_post",), layers=LAYERS, token_kind="image", prompt_ids=((1, 2, 3),), answer_ids=((5, 6),),
        states={"resid_post": torch.from_numpy(draw.normal(size=(3, 1, 4, WIDTH)).astype(np.float32))}, ended=(True,),
        sampling=Sampling(max_new_tokens=2, temperature=0.0, top_p=1.0, seed=None),
        hooks=(HookReport(name="resid_post", fired=1, shape=(1, 4, WIDTH), finite=True),), **same,
    )  # fmt: skip
    lens = LensInfo(
        kind="ridge", model_name="tiny", model_fingerprint="0f" * 16, site="resid_post", layers=LAYERS, patch=PATCH,
        grid=(2, 2), fitted_on="noise", n_fit=1, n_heldout=0,
    )  # fmt: skip
    decoding = Decoding(
        patches=draw.random((3, 1, 4, PATCH, PATCH, 3), dtype=np.float32),
        true=np.zeros((1, 4, PATCH, PATCH, 3), np.float32), layers=LAYERS, site="resid_post", lens=lens, **same,
    )  # fmt: skip
    study = open_study(path, create=True)
    study.add_trace(trace, "photo")
    study.save_arrays("photo", "decoding", *decoding.to_arrays(with_images=False))
    study.save_arrays("photo", "names", {}, {"images": ["cup.png"]})


def _kinds(sound: Path, victim: Path) -> Iterator[tuple[str, Harm]]:
    yield from _names(victim)
    yield from _links(victim)
    yield from _values(sound)
    yield from _json_bombs()
    yield from _pictures()
    yield from _tensors(sound)
    yield "twelve thousand entries", _many_entries


def _names(victim: Path) -> Iterator[tuple[str, Harm]]:
    for name in ("../../../victim", str(victim), "..", ".", "000000", "data-00000000/..", "data-0000000g"):
        yield f"data {name!r}", _changed(ENTRY, "data", name)
    for name in (
        "../../../../victim/thesis.tex",
        str(victim / "thesis.tex"),
        "x.safetensors",
        "names.safetensors",
    ):
        yield f"arrays {name!r}", _changed(ENTRY, "arrays", {"decoding": name})
    for name in (
        "../victim/private.png",
        str(victim / "private.png"),
        "/dev/zero",
        "images/../../victim/private.png",
    ):
        yield f"image {name!r}", _changed(TRACE, "images", [name])
        yield f"hash {name!r}", _changed(TRACE, "image_hashes", [name])


def _links(victim: Path) -> Iterator[tuple[str, Harm]]:
    for place in ("study.json", ENTRY, TRACE, TENSORS):
        yield f"{place} is a link", _replaced(place, lambda path: path.symlink_to(victim / "thesis.tex"))
        yield f"{place} is a pipe", _replaced(place, os.mkfifo)
        yield f"{place} is a folder", _replaced(place, os.mkdir)
        yield f"{place} is endless", _replaced(place, lambda path: path.symlink_to("/dev/zero"))
    for place in ("entries", "entries/photo", "entries/photo/data-00000000", "images", ".locks"):
        yield (
            f"{place} is a link",
            _replaced(place, lambda path: path.symlink_to(victim, target_is_directory=True)),
        )


def _values(sound: Path) -> Iterator[tuple[str, Harm]]:
    """Each value of each JSON file, replaced by each odd one; and each key left out."""
    for place in ("study.json", ENTRY, TRACE):
        value = json.loads((sound / place).read_text())
        for keys in _paths(value):
            for odd in ODD:
                yield f"{place}: {'.'.join(map(str, keys))} = {odd!r}", _put(place, keys, odd)
            yield f"{place}: no {'.'.join(map(str, keys))}", _put(place, keys, _left_out)
    note = json.loads(_header(_decoding(sound))["__metadata__"]["emma_viz"])
    for keys in _paths(note):
        for odd in ODD:
            yield f"decoding: {'.'.join(map(str, keys))} = {odd!r}", _noted(keys, odd)
        yield f"decoding: no {'.'.join(map(str, keys))}", _noted(keys, _left_out)


def _json_bombs() -> Iterator[tuple[str, Harm]]:
    texts = {
        "deep": "[" * 100_000,
        "deep and closed": '{"a":' * 50_000 + "1" + "}" * 50_000,
        "a long integer": '{"a": ' + "9" * 5000 + "}",
        "not a number": '{"a": NaN}',
        "a key twice": '{"version": 1, "version": 1}',
        "a list": "[]",
        "nothing": "",
        "a million values": '{"a": [' + "0," * 2_000_000 + "0]}",
    }
    for place in ("study.json", ENTRY, TRACE):
        for name, text in texts.items():
            yield f"{place}: {name}", _written(place, text.encode())
        yield f"{place}: 20 GB that are not there", _sparse(place, 20 * 2**30)


def _pictures() -> Iterator[tuple[str, Harm]]:
    def picture(make: Callable[[], bytes]) -> Harm:
        def harm(study: Path) -> None:
            (path,) = (study / "images").iterdir()
            path.write_bytes(make())

        return harm

    yield "a picture of 1.6 Gpx", picture(lambda: _png(40_000, 40_000, b""))
    yield "another picture", picture(lambda: _png(30, 20, zlib.compress(bytes(20 * 91))))
    yield (
        "compressed text without end",
        picture(lambda: _png(30, 20, b"", (b"zTXt", b"a\0\0" + zlib.compress(bytes(2**28))))),
    )
    yield (
        "a profile without end",
        picture(lambda: _png(30, 20, b"", (b"iCCP", b"a\0\0" + zlib.compress(bytes(2**28))))),
    )
    yield "pixels without end", picture(lambda: _png(30, 20, zlib.compress(bytes(2**28))))
    yield "no picture", picture(lambda: b"hello")

    def claimed(study: Path) -> None:
        _changed(
            TRACE,
            "geometry",
            [{"image_size": [40_000, 40_000], "strategy": "letterbox", "size": SIDE, "patch": PATCH}],
        )(study)
        picture(lambda: _png(40_000, 40_000, b""))(study)

    yield "a trace that claims 1.6 Gpx", claimed

    def sparse(study: Path) -> None:
        (path,) = (study / "images").iterdir()
        os.truncate(path, 20 * 2**30)

    yield "a picture of 20 GB that are not there", sparse


def _tensors(sound: Path) -> Iterator[tuple[str, Harm]]:
    header = _header(sound / TENSORS)
    states, views = header["states/resid_post"], header["views"]
    changes: dict[str, dict[str, Any]] = {
        "views of floats": {"views": views | {"dtype": "F32", "shape": [1, 17, 17, 1][:3]}},
        "views of another shape": {"views": views | {"shape": [1, 17 * 17, 3, 1]}},
        "views of two images": {"views": views | {"shape": [2, 17, 17, 3]}},
        "states of integers": {"states/resid_post": states | {"dtype": "I32"}},
        "states of one layer": {"states/resid_post": states | {"shape": [1, 3, 4, 5]}},
        "states of one axis": {"states/resid_post": states | {"shape": [60]}},
        "states without a width": {"states/resid_post": states | {"shape": [3, 1, 20]}},
        "states that overlap": {"states/resid_post": states | {"data_offsets": [867, 1107]}, "views": views},
        "views that overlap": {"views": views | {"data_offsets": [0, 867]}},
        "states that end beyond": {
            "states/resid_post": states | {"data_offsets": [0, 2**40], "shape": [2**38]}
        },
        "a shape without end": {"states/resid_post": states | {"shape": [2**40, 2**40, 2**40, 0]}},
        "a type of tomorrow": {"states/resid_post": states | {"dtype": "F4"}},
        "metadata of lists": {"__metadata__": {"a": []}},
        "metadata that is a list": {"__metadata__": []},
        "a tensor that is a number": {"views": 3},
        "one more tensor": {"more": {"dtype": "U8", "shape": [0], "data_offsets": [1107, 1107]}},
        "a hundred thousand tensors": {
            str(number): {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for number in range(100_000)
        },
    }
    for name, change in changes.items():
        yield name, _headed(TENSORS, header | change)
    without = {key: value for key, value in header.items() if key != "views"}
    yield "no views", _headed(TENSORS, without)
    for length in (0, 1, 2**31, 2**63, 2**64 - 1):
        yield f"a header of {length} bytes", _written(TENSORS, struct.pack("<Q", length) + b"{}")
    yield "a header that is deep", _written(TENSORS, struct.pack("<Q", 200_000) + b'{"a":' * 40_000)
    yield "a header of 90 MB", _written(TENSORS, struct.pack("<Q", 90 * 2**20) + b" " * (90 * 2**20))
    yield "20 GB of views that are not there", _sparse_views
    for name, number in (("not a number", np.nan), ("infinite", np.inf), ("huge", 3e38)):
        yield (
            f"decoded pixels that are {name}",
            _decoded(lambda patches, number=number: np.full_like(patches, number)),
        )
    yield "decoded pixels of another shape", _decoded(lambda patches: patches[..., :1])
    yield "decoded pixels of integers", _decoded(lambda patches: patches.astype(np.int32))
    yield "decoded pixels of bits", _decoded(lambda patches: patches > 0)


def _many_entries(study: Path) -> None:
    entry = json.loads((study / ENTRY).read_text())
    for number in range(12_000):
        folder = study / "entries" / f"e-{number}"
        folder.mkdir()
        (folder / "entry.json").write_text(json.dumps(entry | {"name": f"e-{number}"}))


def _paths(value: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*keys, key)
        yield from _paths(item, (*keys, key))


_left_out = object()


def _with(value: Any, keys: tuple[Any, ...], odd: Any) -> Any:
    inner = value
    for key in keys[:-1]:
        inner = inner[key]
    if odd is _left_out:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = odd
    return value


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")


def _put(place: str, keys: tuple[Any, ...], odd: Any) -> Harm:
    return lambda study: (study / place).write_bytes(
        _dump(_with(json.loads((study / place).read_text()), keys, odd))
    )


def _changed(place: str, key: str, odd: Any) -> Harm:
    return _put(place, (key,), odd)


def _written(place: str, content: bytes) -> Harm:
    return lambda study: (study / place).write_bytes(content)


def _replaced(place: str, make: Callable[[Path], object]) -> Harm:
    def harm(study: Path) -> None:
        path = study / place
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        make(path)

    return harm


def _sparse(place: str, size: int) -> Harm:
    return lambda study: os.truncate(study / place, size)


def _header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return json.loads(file.read(int.from_bytes(file.read(8), "little")))


def _rewritten(path: Path, header: dict[str, Any]) -> None:
    content = path.read_bytes()
    text = _dump(header)
    path.write_bytes(
        struct.pack("<Q", len(text)) + text + content[8 + int.from_bytes(content[:8], "little") :]
    )


def _headed(place: str, header: dict[str, Any]) -> Harm:
    return lambda study: _rewritten(study / place, header)


def _decoding(study: Path) -> Path:
    (path,) = study.glob("entries/photo/data-00000000/decoding.*.safetensors")
    return path


def _noted(keys: tuple[Any, ...], odd: Any) -> Harm:
    def harm(study: Path) -> None:
        header = _header(_decoding(study))
        note = _with(json.loads(header["__metadata__"]["emma_viz"]), keys, odd)
        header["__metadata__"]["emma_viz"] = json.dumps(note)
        _rewritten(_decoding(study), header)

    return harm


def _decoded(change: Callable[[np.ndarray], np.ndarray]) -> Harm:
    def harm(path: Path) -> None:
        study = open_study(path)
        arrays, meta = study.load_arrays("photo", "decoding")
        arrays["patches"] = change(arrays["patches"])
        study.save_arrays("photo", "decoding", arrays, meta, overwrite=True)

    return harm


def _sparse_views(study: Path) -> None:
    """A trace that fits its tensors, of views that a file of a few kilobytes claims to hold."""
    side = 8000
    _changed(
        TRACE,
        "geometry",
        [{"image_size": [30, 20], "strategy": "letterbox", "size": side, "patch": side // 2}],
    )(study)
    _changed(TRACE, "states", [])(study)
    _changed(ENTRY, "has_states", False)(study)
    size = side * side * 3
    text = _dump({"views": {"dtype": "U8", "shape": [1, side, side, 3], "data_offsets": [0, size]}})
    (study / TENSORS).write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(study / TENSORS, 8 + len(text) + size)


def _png(width: int, height: int, data: bytes, *more: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + b"".join(chunk(*each) for each in (*more, (b"IDAT", data), (b"IEND", b"")))
    )
