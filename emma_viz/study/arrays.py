"""Named arrays with a description, as one safetensors file: decodings, maps, masks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emma_viz.data.provenance import dump_json
from emma_viz.errors import InputError, StudyError
from emma_viz.files.json_door import parse_json
from emma_viz.files.schema import shape
from emma_viz.files.tensors import HEADER, read_header
from emma_viz.study.files import read_tensor, write_study_tensors

_KEY = "emma_viz"


@dataclass(frozen=True, kw_only=True)
class _Note:
    """What stands in the header of a file of arrays."""

    names: tuple[str, ...]
    meta: dict[str, Any]


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays, memory-mapped, and the JSON object that was stored with them.

    Raises:
        StudyError: the file is missing, damaged, or was not written by `Study.save_arrays`.
    """
    header = read_header(path, error=StudyError)
    if _KEY not in header.note:
        raise StudyError(f"{path} was not written by save_arrays: its header has no {_KEY!r}.")
    value = parse_json(header.note[_KEY], where=f"{path}, {_KEY}", error=StudyError, budget=HEADER)
    note = shape(value, _Note, where=f"{path}, {_KEY}", error=StudyError)
    if sorted(note.names) != sorted(header.tensors):
        raise StudyError(f"{path} does not hold the arrays that it lists; it was changed or damaged.")
    if odd := [name for name, tensor in header.tensors.items() if tensor.dtype == "BF16"]:
        raise StudyError(f"{path}: {odd[0][:100]!r} is of a type that arrays do not have (BF16).")
    return {name: read_tensor(path, name).numpy() for name in note.names}, note.meta


def write_arrays(path: Path, name: str, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Write what `read_arrays` reads, whole or not at all.

    Args:
        path: where to.
        name: of the arrays as a whole, for messages.
        arrays: booleans, integers, floats or complex64, of any shape.
        meta: a JSON object.

    Raises:
        StudyError: they cannot be stored or written.
    """
    tensors = {key: to_tensor(key, array) for key, array in arrays.items()}
    write_study_tensors(path, tensors, note_of(name, arrays, meta))


def to_tensor(key: str, array: np.ndarray) -> torch.Tensor:
    """An array as a file holds it.

    Raises:
        StudyError: it is no array, or of a type that cannot be stored.
    """
    if not isinstance(array, np.ndarray):
        raise StudyError(f"Expected arrays of numpy to store, and {key!r} is a {type(array).__name__}.")
    try:
        if array.dtype.kind not in "biuf" and array.dtype != np.complex64:
            raise TypeError(array.dtype)
        # A copy where torch needs one: native byte order, rows in order, writeable.
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        return torch.from_numpy(np.require(native, requirements="CW"))
    except TypeError as error:
        raise StudyError(
            f"Arrays of {array.dtype} cannot be stored, and {key!r} is one; store numbers or booleans."
        ) from error


def note_of(name: str, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> dict[str, str]:
    """The text of a file's header.

    Raises:
        StudyError: `meta` has no JSON form.
    """
    try:
        return {_KEY: dump_json({"names": list(arrays), "meta": meta})}
    except InputError as error:
        raise StudyError(f"The description of the arrays {name!r} cannot be stored: {error}") from error
