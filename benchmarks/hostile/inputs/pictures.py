"""Pictures and sidecars that nobody drew: bombs, forged arrays, senseless values, damaged bytes; all of a seed."""

import base64
import copy
import io
import json
import random
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from emma_viz.errors import InputError
from emma_viz.render import FigureSpec, GridSpans, ImageCase, ModelCase, encode, page, read_spec, with_recipe
from emma_viz.render.sidecar import to_json

SUFFIXES = (".png", ".svg", ".pdf", ".html")
_SENSELESS = (
    *(None, True, -1, 0, 10**19, -0.5, 1e308, "", "\u001b[31m", "../../x", "\ud800", [], {}, [[]]),
    *([0] * 1000, [1, "a"], "x" * 200_000, "図" * 1000, {"a": 1}, [None, None], [-1e308, 1e308, 1, 2]),
)


def hostile_pictures(
    folder: Path, seed: int, share: float = 1.0, *, mutants: int = 60
) -> Iterator[tuple[str, Path]]:
    """Write hostile files, one after the other.

    Args:
        folder: where they go.
        seed: of what chance decides.
        share: how many of the files are written, each so many-th.
        mutants: sound files with chance changes, beside those of a kind of their own.

    Yields:
        What it is, and where.
    """
    rng = random.Random(seed)
    document, plain = json.loads(to_json(sound_spec())), dict(_plain())
    sound = {suffix: with_recipe(data, suffix, json.dumps(document)) for suffix, data in plain.items()}
    made: list[tuple[str, str, Callable[[], bytes]]] = [
        *(
            (f"arrays: {what}", ".json", lambda change=change: _forged(document, change))
            for what, change in _ARRAYS
        ),
        *(
            (f"recipe of zeros in {suffix}", suffix, lambda suffix=suffix: _bomb(plain, suffix))
            for suffix in SUFFIXES
        ),
        ("6000 images", ".json", lambda: _many(document, 6000)),
        ("120000 notes", ".json", lambda: _with(document, ["notes"], ["x"] * 120_000)),
        (
            "one wide text",
            ".json",
            lambda: _with(document, ["notes"], ["x" * 2**25 + "😀"], ascii_only=False),
        ),
        ("one long text", ".json", lambda: _with(document, ["images", 0, "title"], "x" * 2**26)),
        ("entities in SVG", ".svg", lambda: _entities(plain[".svg"])),
        ("two recipes in PNG", ".png", lambda: with_recipe(sound[".png"], ".png", "{}")),
        ("two recipes in a page", ".html", lambda: with_recipe(sound[".html"], ".html", "{}")),
    ]
    for _ in range(mutants):
        if rng.random() < 0.6:
            where, value = rng.choice(list(_places(document["figure"]))), rng.choice(_SENSELESS)
            data = _with(document, where, value)
            made.append(
                (f"{'.'.join(map(str, where))} = {str(value)[:30]!r}", ".json", lambda data=data: data)
            )
        else:
            suffix = rng.choice(SUFFIXES)
            data = _damaged(sound[suffix], rng)
            made.append((f"damaged {suffix}", suffix, lambda data=data: data))
    for index, (what, suffix, make) in list(enumerate(made))[:: round(1 / share)]:
        path = folder / f"{index:04}{suffix}"
        path.write_bytes(make())
        yield what, path


def judged(seed: int) -> Iterator[tuple[str, str]]:
    """Draw each hostile picture of a seed as a page; yields what it is, and why it was refused or ""."""
    with tempfile.TemporaryDirectory() as folder:
        for what, path in hostile_pictures(Path(folder), seed):
            try:
                page(read_spec(path))
                yield what, ""
            except InputError as error:
                yield what, str(error)
            path.unlink()


def sound_spec() -> FigureSpec:
    """A small figure of an image and a model."""
    rng = np.random.default_rng(0)
    model = ModelCase(
        name="model",
        answer="An answer.",
        layers=(0, 3),
        decoded=rng.random((2, 8, 8, 3), dtype=np.float32),
        maps=rng.random((2, 2, 2), dtype=np.float32),
        limits=np.tile(np.array([0, 1], np.float32), (2, 1)),
        correlation=np.array([0.5, 0.25], np.float32),
        retention=((0, 0.5), (3, 0.25)),
    )
    case = ImageCase(
        title="image.png",
        image=rng.integers(0, 256, (8, 8, 3), dtype=np.uint8),
        image_hash="0" * 64,
        prompt="A question?",
        spans=GridSpans.even((0.0, 0.0, 1.0, 1.0), (2, 2)),
        true_map=rng.random((2, 2), dtype=np.float32),
        true_limits=(0.0, 1.0),
        models=(model,),
    )
    return FigureSpec(images=(case,))


def _plain() -> Iterator[tuple[str, bytes]]:
    for suffix in SUFFIXES:
        yield suffix, encode(sound_spec(), f"a{suffix}", dpi=40, recipe=False)[0].content


def _places(value: Any, place: tuple = ()) -> Iterator[tuple]:
    if place:
        yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _places(item, (*place, key))


def _with(document: dict, where: Any, value: Any, *, ascii_only: bool = True) -> bytes:
    changed = copy.deepcopy(document)
    holder = changed["figure"]
    for key in where[:-1]:
        holder = holder[key]
    holder[where[-1]] = value
    return json.dumps(changed, ensure_ascii=ascii_only).encode("utf-8", errors="surrogatepass")


def _many(document: dict, count: int) -> bytes:
    return _with(document, ["images"], document["figure"]["images"] * count)


def _bomb(plain: dict[str, bytes], suffix: str) -> bytes:
    return with_recipe(
        plain[suffix], suffix, "0" * (400 * 2**20 if suffix in (".png", ".pdf") else 120 * 2**20)
    )


def _entities(svg: bytes) -> bytes:
    lines = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "lol"}">' for n in range(20))
    body = svg[svg.index(b"<svg") :].replace(
        b"</svg>", b'<metadata id="emma-viz-recipe">&e19;</metadata></svg>'
    )
    return f"<!DOCTYPE svg [{lines}]>".encode() + body


def _damaged(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 4, 40))):
        at = rng.randrange(len(changed))
        if rng.random() < 0.5:
            changed[at] = rng.randrange(256)
        else:
            del changed[at : at + rng.choice((1, 100, len(changed) // 3))]
        if not changed:
            break
    return bytes(changed)


Members = dict[str, bytes]


def _forged(document: dict, change: Callable[[Members], Members | bytes]) -> bytes:
    """The document with another archive of arrays."""
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(document["arrays"]))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    forged = change(members)
    packed = forged if isinstance(forged, bytes) else _zip(forged)
    return json.dumps({**document, "arrays": base64.b64encode(packed).decode()}).encode()


def _zip(members: Members) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=array.dtype == object)
    return stream.getvalue()


def _headed(shape: str, descr: str = "'<f4'", size: int = 16) -> bytes:
    """An array whose header says what its values do not hold."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * size


def _replaced(name: str, content: Callable[[], bytes]) -> Callable[[Members], Members]:
    return lambda members: {**members, f"figure.images.0.{name}.npy": content()}


def _spare(members: Members) -> Members:
    return {**members, "spare.npy": _headed("(16777216,)", size=2**26)}


_ARRAYS: tuple[tuple[str, Callable[[Members], Members | bytes]], ...] = (
    ("one that nothing names", _spare),
    (
        "a million that nothing names",
        lambda members: _zip({**members, **{f"{n}.npy": b"" for n in range(60_000)}}),
    ),
    ("one is missing", lambda members: dict(list(members.items())[1:])),
    ("objects", _replaced("image", lambda: _saved(np.array([{"a": 1}], dtype=object)))),
    ("complex", _replaced("true_map", lambda: _saved(np.zeros((2, 2), np.complex64)))),
    ("integers", _replaced("true_map", lambda: _saved(np.zeros((2, 2), np.int64)))),
    ("floats for the image", _replaced("image", lambda: _saved(np.zeros((8, 8, 3), np.float32)))),
    ("texts", _replaced("true_map", lambda: _saved(np.array([["a", "b"]])))),
    ("limits that are no numbers", _replaced("models.0.limits", lambda: _saved(np.full((2, 2), np.nan)))),
    ("endless limits", _replaced("models.0.limits", lambda: _saved(np.array([[-1e308, 1e308]] * 2)))),
    ("shapes that disagree", _replaced("models.0.maps", lambda: _saved(np.zeros((3, 2, 2), np.float32)))),
    ("no sides", _replaced("models.0.maps", lambda: _saved(np.array(1, np.float32)))),
    ("empty", _replaced("models.0.maps", lambda: _saved(np.zeros((2, 0, 2), np.float32)))),
    ("4 GB", _replaced("true_map", lambda: _headed("(32768, 32768)"))),
    ("more sides than numpy has", _replaced("true_map", lambda: _headed("(" + "1, " * 80 + ")", size=4))),
    ("a shape of digits", _replaced("true_map", lambda: _headed("(" + "9" * 600 + ",)"))),
    ("a header that is code", _replaced("true_map", lambda: _headed("__import__('os').system('true')"))),
    ("a header of brackets", _replaced("true_map", lambda: _headed("(" * 900))),
    ("no archive", lambda members: zlib.compress(b"0" * 2**20)),
    ("half an archive", lambda members: _zip(members)[:-60]),
)


if __name__ == "__main__":
    json.dump(list(judged(int(sys.argv[1]))), sys.stdout)
