"""The header of a safetensors file, read into `TensorRef`s.

The safetensors library maps a whole file and hands out views of it; reading the header here lets these files go
through the same small windows as `.pt` archives, and lets `inspect` look at a file without touching its values.
Format: 8 bytes, the length of the header; the header, JSON; the values.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch

from emma_viz.checkpoints.readers.allowance import DESCRIPTION, Allowance, require_names
from emma_viz.checkpoints.readers.tensors import TensorRef, row_major_strides
from emma_viz.errors import CheckpointError
from emma_viz.files.json_door import Budget, open_regular, parse_json
from emma_viz.files.schema import Count, shape

_DTYPES = {
    "C64": torch.complex64,
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
_QUANTISED = ("F8_", "F6_", "F4", "E8M0")
"""Beginnings of the names of types that only quantised models have."""


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A tensor, as the header describes it."""

    dtype: str
    shape: Annotated[list[Count], msgspec.Meta(max_length=16)]
    data_offsets: tuple[Count, Count]


def read_references(
    path: Path, allowance: Allowance | None = None
) -> tuple[dict[str, TensorRef], dict[str, str]]:
    """Read the tensors' places and the text metadata.

    Args:
        path: the file.
        allowance: what is left of the limits; a full one when None.

    Returns:
        (key → tensor reference, metadata).

    Raises:
        CheckpointError: the file is missing, truncated, its header is not one, or takes more than the allowance to
            read.
    """
    allowance = allowance or Allowance()
    try:
        with open_regular(path, error=CheckpointError) as file:
            size = file.seek(0, 2)
            file.seek(0)
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= size - 8:
                raise CheckpointError(
                    f"{path} is no safetensors file, or it is truncated: its header does not fit in it."
                )
            allowance.spend_size(length, str(path))
            text = file.read(length)
    except OSError as failure:
        raise CheckpointError(f"{path} cannot be read: {failure.strerror or failure}.") from failure
    where = f"{path}: the safetensors header"
    budget = Budget(size=DESCRIPTION, depth=4, nodes=max(allowance.steps, 0))
    header = shape(
        parse_json(text, where=where, error=CheckpointError, budget=budget),
        dict[str, Any],
        where=where,
        error=CheckpointError,
    )
    allowance.spend_steps(text.count(b",") + text.count(b"[") + text.count(b"{"), str(path))
    metadata = shape(
        header.pop("__metadata__", {}), dict[str, str], where=f"{where}: __metadata__", error=CheckpointError
    )
    require_names(len(header), max(header, key=len, default=""), where)
    tensors = {key: _reference(path, 8 + length, key, entry) for key, entry in header.items()}
    _require_apart(tensors, size, where)
    return tensors, metadata


def _reference(path: Path, start: int, key: str, value: Any) -> TensorRef:
    where = f"{path}: {key!r} in the safetensors header"
    entry = shape(value, _Entry, where=where, error=CheckpointError)
    if entry.dtype not in _DTYPES:
        reason = (
            "the weights are quantised, which is not supported"
            if entry.dtype.startswith(_QUANTISED)
            else (f"known are {', '.join(_DTYPES)}")
        )
        raise CheckpointError(f"{where} is of the type {entry.dtype[:30]!r}; {reason}.")
    dtype, sizes = _DTYPES[entry.dtype], tuple(entry.shape)
    begin, end = entry.data_offsets
    if end - begin != math.prod(sizes) * dtype.itemsize:
        raise CheckpointError(
            f"{where} has {end - begin} bytes, expected those of shape {sizes} and type {entry.dtype}."
        )
    return TensorRef(
        path=path, dtype=dtype, shape=sizes, strides=row_major_strides(sizes), offset=start + begin
    )


def _require_apart(tensors: dict[str, TensorRef], size: int, where: str) -> None:
    """Refuse tensors that overlap, which the format forbids, or lie past the end."""
    places = sorted((ref.offset, ref.offset + ref.span, key) for key, ref in tensors.items() if ref.numel)
    for (_, end, one), (begin, _, other) in pairwise(places):
        if begin < end:
            raise CheckpointError(f"{where}: {one!r} and {other!r} overlap; the file was changed or damaged.")
    if places and places[-1][1] > size:
        raise CheckpointError(
            f"{where}: the file is truncated: it asks for {places[-1][1]} bytes, the file has {size}."
        )
