"""The sidecar of a figure: one JSON file with everything needed to draw it again, without model or photo.

Words and numbers are readable JSON; all arrays are one compressed npz, base64 in the field `arrays`, and an
array's place in the JSON holds its name there. Reading never unpickles.
"""

import base64
import binascii
import io
import json
import zipfile
import zlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from emma_viz.errors import InputError
from emma_viz.render.output import write_atomically
from emma_viz.render.spec import FigureSpec, ImageCase, ModelCase

FORMAT = "emma-viz figure"
SCHEMA = 2
SINCE = {"difference_limit": 2}
"""Field → the schema that brought it; an older file lacks it, and it then has its default."""
LARGEST = 4 * 2**30
"""Bytes that a sidecar's arrays may unpack to; a file that claims more is not a figure."""

_DAMAGE = (binascii.Error, zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError)
_ARRAYS = {ImageCase: ("image", "true_map"), ModelCase: ("decoded", "maps", "limits", "correlation")}
_CASES = {FigureSpec: ("images", ImageCase), ImageCase: ("models", ModelCase)}


def to_json(spec: FigureSpec) -> str:
    """The spec as JSON text; equal specs give equal text."""
    arrays: dict[str, np.ndarray] = {}
    document = {"format": FORMAT, "schema": SCHEMA, "figure": _pack(spec, "figure", arrays)}
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    document["arrays"] = base64.b64encode(stream.getvalue()).decode("ascii")
    return json.dumps(document, indent=1, allow_nan=False, default=_plain) + "\n"


def from_json(text: str, where: str = "figure sidecar") -> FigureSpec:
    """The spec that `to_json` wrote.

    Args:
        text: the JSON text.
        where: what to call it in an error, e.g. the file's path.

    Raises:
        InputError: the text is not a sidecar, is damaged, or was written by a newer emma_viz.
    """
    try:
        document = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(
            f"{where}: expected a figure's JSON sidecar, but it is not JSON ({error})."
        ) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(
            f'{where}: expected a figure\'s JSON sidecar ("format": "{FORMAT}"), got other JSON; pass the .json '
            "file that was written beside a figure."
        )
    schema = document.get("schema")
    if type(schema) is not int or schema < 1:
        raise InputError(f"{where}: damaged sidecar (schema is {schema!r}, no number); draw the figure anew.")
    if schema > SCHEMA:
        raise InputError(
            f"{where}: written by a newer emma_viz (schema {schema}; this one reads up to {SCHEMA}); "
            "upgrade emma_viz."
        )
    try:
        return _unpack(FigureSpec, document["figure"], _arrays(document["arrays"], where), schema)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        detail = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{where}: damaged sidecar ({detail}); draw the figure anew.") from error


def write_spec(spec: FigureSpec, path: str | Path) -> Path:
    """Write a sidecar, whole or not at all.

    Raises:
        InputError: the folder does not exist or cannot be written to.
    """
    return write_atomically(path, lambda stream: stream.write(to_json(spec).encode("ascii")))


def read_spec(path: str | Path) -> FigureSpec:
    """Read a sidecar.

    Raises:
        InputError: there is no such file, or `from_json` refuses it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected a figure's JSON sidecar.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected a figure's JSON sidecar, got a file that is not text.") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    return from_json(text, str(path))


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
        if field.name in _ARRAYS.get(type(value), ()):
            arrays[inner] = item
            item = inner
        elif field.name == nested:
            item = [_pack(case, f"{inner}.{index}", arrays) for index, case in enumerate(item)]
        elif field.name == "retention":
            # Two arrays, because JSON has no NaN.
            arrays[f"{inner}.layer"] = np.array([layer for layer, _ in item], dtype=np.int64)
            arrays[f"{inner}.r2"] = np.array([r2 for _, r2 in item], dtype=np.float64)
            item = inner
        packed[field.name] = item
    return packed


def _unpack(kind: Any, packed: dict, arrays: dict[str, np.ndarray], schema: int):
    values = {}
    nested, case_kind = _CASES.get(kind, (None, None))
    for field in fields(kind):
        if field.name not in packed and schema < SINCE.get(field.name, 1):
            continue
        item = packed[field.name]
        if field.name in _ARRAYS.get(kind, ()):
            item = arrays[item]
        elif field.name == nested:
            item = tuple(_unpack(case_kind, case, arrays, schema) for case in item)
        elif field.name == "retention":
            layers, r2 = arrays[f"{item}.layer"], arrays[f"{item}.r2"]
            item = tuple(zip(layers.tolist(), r2.tolist(), strict=True))
        elif isinstance(item, list):
            item = tuple(item)
        values[field.name] = item
    unknown = sorted(set(packed) - set(values))
    if unknown:
        raise ValueError(f"unknown fields {', '.join(unknown)}")
    return kind(**values)


def _arrays(text: str, where: str) -> dict[str, np.ndarray]:
    try:
        stream = io.BytesIO(base64.b64decode(text, validate=True))
        with zipfile.ZipFile(stream) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > LARGEST:
            raise InputError(f"{where}: its arrays would take {size / 2**30:.0f} GB; this is not a figure.")
        with np.load(stream, allow_pickle=False) as loaded:
            return {name: loaded[name] for name in loaded.files}
    except InputError:
        raise
    except (*_DAMAGE, ValueError) as error:
        detail = f"its arrays cannot be unpacked: {error}"
        raise InputError(f"{where}: damaged sidecar ({detail}); draw the figure anew.") from error
