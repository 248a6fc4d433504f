"""The recipe of a figure: one JSON document with everything needed to draw it again, without model or photo.

Words and numbers are readable JSON; all arrays are one compressed npz, base64 in the field `arrays`, and an
array's place in the JSON holds its name there. The document stands inside the picture, and in a file beside it, the
sidecar, which also names the picture that was written with it. Reading never unpickles, and judges every array by its
size before it unpacks one.
"""

import base64
import dataclasses
import functools
import hashlib
import io
import json
import re
import types
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, cast, get_type_hints

import msgspec
import numpy as np

from emma_viz.errors import InputError
from emma_viz.files.json_door import Budget, parse_json, read_bytes
from emma_viz.files.schema import shape
from emma_viz.files.versions import require_version
from emma_viz.render.arrays import ArrayKind, unpack_arrays
from emma_viz.render.output import write_atomically
from emma_viz.render.recipe import LARGEST, ROOM, recipe_in
from emma_viz.render.spans import Extent, GridSpans
from emma_viz.render.spec import FigureSpec, ImageCase, ModelCase
from emma_viz.render.words import distinct

_FORMAT = "emma-viz figure"
SIDECAR_SCHEMA = 7
SINCE = {
    "difference_limit": 2, "kept": 3, "word": 4, "evidence": 4, "score": 4, "marked": 5, "controls": 5,
    "pair": 6, "font_scale": 6, "judged": 6, "beats": 6, "n_layer": 6,
}  # fmt: skip
"""Field → the schema that brought it; an older file lacks it, and it then has its default."""
_SPANS_SINCE = 7
"""Before, a grid was kept as the rectangle `extent` that its cells shared evenly."""
VALUES = 200_000
"""Values, texts and names that a recipe holds at most, its arrays aside."""

_ARRAYS: dict[type, dict[str, ArrayKind]] = {
    ImageCase: {"image": "bytes", "true_map": "numbers"},
    ModelCase: dict.fromkeys(("decoded", "maps", "limits", "correlation", "evidence"), "numbers"),
}
_CASES: dict[type, tuple[str, type]] = {FigureSpec: ("images", ImageCase), ImageCase: ("models", ModelCase)}
_PARTS: dict[str, dict[str, ArrayKind]] = {
    "retention": {"layer": "integers", "r2": "numbers"},
    "spans": {"across": "numbers", "down": "numbers"},
}
"""Field → the arrays that it is kept as: JSON has no NaN, and a text of many numbers is long."""


@dataclass(frozen=True, kw_only=True)
class _Document:
    format: str
    schema: int
    figure: Any
    arrays: str
    picture_sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")] | None = None


def to_json(spec: FigureSpec, picture: bytes | None = None) -> str:
    """The spec as JSON text in ASCII; equal specs give equal text.

    Args:
        spec: the figure.
        picture: the content of the file that it was drawn as, whose SHA-256 a sidecar names.
    """
    arrays: dict[str, np.ndarray] = {}
    document: dict[str, Any] = {"format": _FORMAT, "schema": SIDECAR_SCHEMA}
    if picture is not None:
        document["picture_sha256"] = hashlib.sha256(picture).hexdigest()
    document["figure"] = _pack(spec, "figure", arrays)
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    document["arrays"] = base64.b64encode(stream.getvalue()).decode("ascii")
    return json.dumps(document, indent=1, allow_nan=False, default=_plain) + "\n"


def from_json(text: str | bytes, where: str = "figure sidecar", *, limit: int = LARGEST) -> FigureSpec:
    """The spec that `to_json` wrote.

    Args:
        text: the JSON text.
        where: what to call it in an error, e.g. the file's path.
        limit: bytes of the text; its arrays may unpack to three times as many.

    Raises:
        InputError: the text is no recipe, is damaged, larger than `limit`, or was written by a newer emma_viz.
    """
    return _read(text, where, limit)[0]


def write_spec(spec: FigureSpec, path: str | Path) -> Path:
    """Write a sidecar, whole or not at all.

    Raises:
        InputError: the folder does not exist or cannot be written to.
    """
    return write_atomically(path, lambda stream: stream.write(to_json(spec).encode("ascii")))


def read_spec(path: str | Path, *, limit: int = LARGEST) -> FigureSpec:
    """Read the recipe of a figure.

    Args:
        path: a sidecar, or a picture with a recipe inside.
        limit: bytes of the recipe; a picture may have twice as many.

    Raises:
        InputError: there is no such file, it is too large, holds no recipe, or `from_json` refuses it.
    """
    return read_sidecar(path, limit=limit)[0]


def read_sidecar(path: str | Path, *, limit: int = LARGEST) -> tuple[FigureSpec, str | None]:
    """As `read_spec`; also the SHA-256 of the picture that the sidecar was written with, where it names one."""
    path = Path(path)
    content: bytes | None = read_bytes(path, limit=ROOM * limit, error=InputError)
    where = str(path)
    if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"["):
        content, where = recipe_in(content, where, limit=limit), f"{where}, the recipe inside"
        if content is None:
            raise InputError(
                f"{path} holds no recipe: it was written without one, or by another program. Pass the .json beside it."
            )
    return _read(content, where, limit)


def is_sidecar(path: Path) -> bool:
    """Whether a file begins as `write_spec` writes it; it may be damaged further on."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return f'{{"format":"{_FORMAT}",' in re.sub(
            r"\s*([{:,])\s*", r"\1", file.read(200).decode("ascii", "replace")
        )


def is_of(digest: str, picture: Path) -> bool:
    """Whether a file is the picture whose SHA-256 a sidecar names."""
    with picture.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == digest


def _read(text: str | bytes, where: str, limit: int) -> tuple[FigureSpec, str | None]:
    # Python keeps a text that is not ASCII in up to four times the memory; `to_json` writes ASCII.
    budget = Budget(size=limit if text.isascii() else limit // 4, depth=16, nodes=VALUES)
    value = parse_json(text, where=where, error=InputError, budget=budget)
    del text
    if not isinstance(value, dict) or value.get("format") != _FORMAT:
        raise InputError(
            f'{where}: expected a figure\'s recipe ("format": "{_FORMAT}"), got other JSON; pass a picture, or the '
            ".json file that was written beside it."
        )
    require_version(value, "schema", SIDECAR_SCHEMA, where=where, error=InputError)
    try:
        document = shape(value, _Document, where=where, error=InputError)
        del value
        figure = shape(document.figure, _packed(FigureSpec, document.schema), where=where, error=InputError)
        kinds = dict(_named(FigureSpec, figure, "figure"))
        arrays = unpack_arrays(document.arrays, kinds, limit=3 * limit)
        return _unpack(FigureSpec, figure, arrays), document.picture_sha256
    except InputError as error:
        said = str(error).removeprefix(f"{where}: ")
        raise InputError(f"{where}: this recipe cannot be drawn: {said.rstrip('.')}.") from error


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"expected text, numbers and arrays in a figure, got a {type(value).__name__}")


def _pack(value, name: str, arrays: dict[str, np.ndarray]) -> dict:
    packed = {}
    nested, _ = _CASES.get(type(value), (None, None))
    for field in fields(value):
        item = getattr(value, field.name)
        inner = f"{name}.{field.name}"
        if field.name in _ARRAYS.get(type(value), ()) and item is not None:
            arrays[inner] = item
            item = inner
        elif field.name == nested:
            item = [_pack(case, f"{inner}.{index}", arrays) for index, case in enumerate(item)]
        elif field.name == "retention":
            arrays[f"{inner}.layer"] = np.array([layer for layer, _ in item], dtype=np.int64)
            arrays[f"{inner}.r2"] = np.array([r2 for _, r2 in item], dtype=np.float64)
            item = inner
        elif field.name == "spans" and item is not None:
            arrays[f"{inner}.across"], arrays[f"{inner}.down"] = item.across, item.down
            item = inner
        packed[field.name] = item
    return packed


@functools.cache
def _packed(kind: Any, schema: int) -> Any:
    """The dataclass of what `_pack` makes of a `kind`: names in place of arrays, everything else as it is."""
    hints, parts = get_type_hints(kind, include_extras=True), []
    nested, case = _CASES.get(kind, (None, None))
    for field in fields(kind):
        hint: Any = hints[field.name]
        if field.name == "spans" and schema < _SPANS_SINCE:
            parts.append(("extent", Extent | None if field.default is None else Extent))
            continue
        if field.name in _PARTS or field.name in _ARRAYS.get(kind, ()):
            hint = str | None if field.default is None else str
        elif field.name == nested:
            hint = types.GenericAlias(tuple, (_packed(case, schema), ...))
        absent = schema < SINCE.get(field.name, 1)
        parts.append((field.name, hint, field.default) if absent else (field.name, hint))
    return dataclasses.make_dataclass(kind.__name__, parts, frozen=True, kw_only=True)


def _named(kind: Any, packed: Any, name: str):
    """(name, kind) of every array that a figure has; the packed spec must name each at its place.

    Raises:
        InputError: it names another.
    """
    nested, case = _CASES.get(kind, (None, None))
    for field in fields(kind):
        if field.name == "spans" and hasattr(packed, "extent"):
            continue
        inner, item = f"{name}.{field.name}", getattr(packed, field.name)
        array = _ARRAYS.get(kind, {}).get(field.name)
        kept = array or field.name in _PARTS
        if kept and item is None:  # of a field that may be absent
            continue
        if kept and item != inner:
            raise InputError(f"expected {inner} to name the array of that name, got {item[:100]!r}")
        if array:
            yield inner, array
        elif kept:
            yield from ((f"{inner}.{part}", of) for part, of in _PARTS[field.name].items())
        elif case and field.name == nested:
            for index, each in enumerate(item):
                yield from _named(case, each, f"{inner}.{index}")


def _of_extent(kind: Any, extent: Extent | None, values: dict[str, Any]) -> dict[str, Any]:
    """What a case of a file that kept extents has now: the spans of its grid, and of its models' other grids."""
    shape = values["true_map" if kind is ImageCase else "maps"].shape[-2:]
    if extent is None or len(shape) < 2:  # the case itself refuses an array of another shape
        return {"spans": None}
    found = {"spans": GridSpans.even(extent, shape)}
    if kind is ImageCase:
        found["models"] = tuple(
            model
            if model.spans is not None or model.maps.shape[1:] == shape
            else dataclasses.replace(model, spans=GridSpans.even(extent, model.maps.shape[1:]))
            for model in values["models"]
        )
    return found


def _unpack(kind: Any, packed: Any, arrays: dict[str, np.ndarray]):
    values = {}
    nested, case = _CASES.get(kind, (None, None))
    for field in fields(kind):
        if field.name == "spans" and hasattr(packed, "extent"):
            continue
        item = getattr(packed, field.name)
        if field.name in _ARRAYS.get(kind, ()) and item is not None:
            item = arrays[item]
        elif field.name == nested:
            item = tuple(_unpack(case, each, arrays) for each in item)
        elif field.name == "retention":
            layers, r2 = arrays[f"{item}.layer"], arrays[f"{item}.r2"]
            if layers.ndim != 1 or layers.shape != r2.shape:
                raise InputError(
                    f"{item}: expected as many layers as values, got {layers.shape} and {r2.shape}"
                )
            item = tuple(zip(layers.tolist(), r2.tolist(), strict=True))
        elif field.name == "spans" and item is not None:
            across, down = (arrays[f"{item}.{part}"].astype(np.float64) for part in _PARTS["spans"])
            item = GridSpans(across=across, down=down)
        values[field.name] = item
    if hasattr(packed, "extent"):
        values |= _of_extent(kind, packed.extent, values)
    if kind is ImageCase:
        # Until schema 6 models of one name were written, of which no figure can tell the rows apart.
        models = cast("tuple[ModelCase, ...]", values["models"])
        called = distinct([model.name for model in models])
        values["models"] = tuple(
            dataclasses.replace(one, name=name) for one, name in zip(models, called, strict=True)
        )
    return kind(**values)
