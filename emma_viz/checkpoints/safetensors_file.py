"""The header of a safetensors file, read into `TensorRef`s.

The safetensors library maps a whole file and hands out views of it; reading the header here lets these files go
through the same small windows as `.pt` archives, and lets `inspect` look at a file without touching its values.
Format: 8 bytes, the length of the header; the header, JSON; the values.
"""

import json
import math
from pathlib import Path

import torch

from emma_viz.checkpoints.tensors import TensorRef, row_major_strides
from emma_viz.errors import CheckpointError

HEADER_LIMIT = 100 * 2**20
"""The library's own limit on the length of a header, bytes."""

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_header(path: Path) -> tuple[dict[str, TensorRef], dict[str, str]]:
    """Read the tensors' places and the text metadata.

    Returns:
        (key → tensor reference, metadata).

    Raises:
        CheckpointError: the file is truncated or its header is not one.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(HEADER_LIMIT, size - 8):
            raise CheckpointError(
                f"{path} is no safetensors file, or it is truncated: its header does not fit in it."
            )
        text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_unique)
        metadata = header.pop("__metadata__", {})
        tensors = {key: _reference(path, 8 + length, entry) for key, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: the safetensors header cannot be read ({error}).") from error
    end = max((ref.offset + ref.span for ref in tensors.values()), default=0)
    if end > size:
        raise CheckpointError(f"{path} is truncated: its header asks for {end} bytes, the file has {size}.")
    return tensors, metadata


def _reference(path: Path, start: int, entry: dict) -> TensorRef:
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"type {entry['dtype']} is not one of {', '.join(DTYPES)}")
    dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    if not all(isinstance(n, int) and n >= 0 for n in (*shape, begin, end)):
        raise ValueError("sizes and offsets must be non-negative integers")
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{end - begin} bytes for a tensor of shape {shape} and type {entry['dtype']}")
    return TensorRef(
        path=path, dtype=dtype, shape=shape, strides=row_major_strides(shape), offset=start + begin
    )


def _unique(pairs: list[tuple[str, object]]) -> dict:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ValueError("a key stands in it twice")
    return dict(pairs)
