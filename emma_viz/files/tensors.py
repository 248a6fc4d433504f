"""The header of a safetensors file: judged before the file is mapped or a value is read.

Format: 8 bytes, the length of the header; the header, JSON; the values, one tensor after another without gaps.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from safetensors import safe_open

from emma_viz.errors import EmmaVizError
from emma_viz.files.atomic import write_file
from emma_viz.files.json_door import Budget, open_regular, parse_json
from emma_viz.files.schema import Count, shape

_SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2,
    "U8": 1, "BOOL": 1, "C64": 8,
}  # fmt: skip
"""Bytes of one value, by the names that safetensors gives to types."""
HEADER = Budget(size=32 * 2**20, nodes=500_000)
"""For headers."""
SPARSE = 256 * 2**20
"""Bytes from which a file must really be on the disk."""

Dtype = Literal[
    "F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL", "C64"
]


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """One tensor of a file."""

    dtype: Dtype
    """Type of its values."""
    shape: Annotated[tuple[Count, ...], msgspec.Meta(max_length=16)]
    """Length of each axis."""
    data_offsets: tuple[Count, Count]
    """Where its bytes begin and end, after the header."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a file says of itself."""

    tensors: Mapping[str, StoredTensor]
    """By name."""
    note: Mapping[str, str] = field(default_factory=dict)
    """The text beside them."""


def read_header(path: Path, *, error: type[EmmaVizError], budget: Budget = HEADER) -> Header:
    """Read the header of a safetensors file, and make sure that the file holds just what it says.

    Args:
        path: the file.
        error: what is raised.
        budget: what the header may cost to read.

    Raises:
        EmmaVizError: of the kind `error`: the file is missing, damaged, cut short, sparse, or its header is larger
            than `budget` or does not describe its tensors.
    """
    try:
        with open_regular(path, error=error) as file:
            about = os.fstat(file.fileno())
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= about.st_size - 8:
                raise error(f"{path}: expected a safetensors file, got one whose header does not fit in it; "
                            "it is damaged, cut short or something else.")  # fmt: skip
            if length > budget.size:
                raise error(f"{path}: expected a header of at most {budget.size:,} bytes, got {length:,}.")
            text = file.read(length)
    except OSError as failure:
        raise error(f"{path} cannot be read ({failure.strerror or failure}).") from failure
    _require_on_disk(path, about, error)
    value = parse_json(text, where=f"{path}, header", error=error, budget=budget)
    if not isinstance(value, dict):
        raise error(f"{path}: expected a header that is a JSON object; the file is damaged.")
    described = {"note": value.pop("__metadata__", {}), "tensors": value}
    header = shape(described, Header, where=f"{path}, header", error=error)
    _require_covered(path, header.tensors, about.st_size - 8 - length, error)
    return header


def _require_on_disk(path: Path, about: os.stat_result, error: type[EmmaVizError]) -> None:
    """A file of a few kilobytes may claim to hold terabytes of zeros."""
    stored = 512 * getattr(about, "st_blocks", 0)
    if about.st_size > SPARSE and 0 < stored < about.st_size / 16:
        raise error(
            f"{path} claims {about.st_size:,} bytes, and only {stored:,} are on the disk: it is mostly a hole. "
            f"Files of more than {SPARSE:,} bytes must be there; copy it anew if it is yours."
        )


def _require_covered(
    path: Path, tensors: Mapping[str, StoredTensor], size: int, error: type[EmmaVizError]
) -> None:
    """Each byte after the header belongs to one tensor."""
    position = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        begin, end = tensor.data_offsets
        if begin != position or end - begin != math.prod(tensor.shape) * _SIZES[tensor.dtype]:
            raise error(
                f"{path}: the tensor {name[:100]!r} of type {tensor.dtype} and shape {list(tensor.shape)} does not fit "
                f"its place, bytes {begin} to {end}. The file is damaged."
            )
        position = end
    if position != size:
        raise error(
            f"{path}: expected {position:,} bytes after the header, got {size:,}; it is damaged or cut short."
        )


def open_tensors(path: str | os.PathLike[str]) -> Any:
    """safetensors' reader of a file, for torch. It takes no name that is not UTF-8: such a file is reached by number.

    Raises:
        SafetensorError: the file is none, or is damaged.
        OSError: it cannot be read.
    """
    name = os.fspath(path)
    if name.isascii() or name.encode("utf-8", "replace").decode("utf-8") == name:
        return safe_open(name, framework="pt")
    with open(name, "rb") as file:
        return safe_open(f"/dev/fd/{file.fileno()}", framework="pt")


def write_tensors(path: Path, tensors: Mapping[str, Any], note: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically.

    Args:
        path: where to.
        tensors: torch tensors of any dtypes and layouts; they are written as contiguous ones on the CPU.
        note: text that goes into the file's own header.

    Raises:
        OSError: the file cannot be written.
        SafetensorError: the same, seen by safetensors.
    """
    from safetensors.torch import save_file

    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_file(path, lambda part: save_file(ready, part, metadata=dict(note) if note else None))
