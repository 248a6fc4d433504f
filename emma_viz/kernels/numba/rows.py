"""Torch tensors as the arrays that the numba kernels read, without a copy where the layout allows."""

import numpy as np
import torch
from torch import Tensor

WIDEST_BLOCK, NARROWEST_BLOCK = 384, 64
"""Bounds of the channels a task; the backward scan keeps about 2 KB a channel at a state size of 16."""

VECTOR = 16
"""Blocks are multiples of the fp32 lanes of the widest vector unit."""


def rows_type(*tensors: Tensor | None) -> torch.dtype:
    """What kernels read these as: bf16 where all are, otherwise float32."""
    half = all(tensor is None or tensor.dtype == torch.bfloat16 for tensor in tensors)
    return torch.bfloat16 if half else torch.float32


def rows_of(tensor: Tensor, dtype: torch.dtype = torch.float32) -> tuple[np.ndarray, int]:
    """A tensor `B L X` as a flat array, float32 or the bits of bf16, and the distance between rows.

    A slice of a wider tensor along the last axis, as a projection's `split` yields, is not copied.
    """
    tensor = tensor.detach().to(dtype)
    batch, length, width = tensor.shape
    distance = tensor.stride(1) if length > 1 else tensor.stride(0)
    regular = (
        (width == 1 or tensor.stride(2) == 1)
        and distance >= width
        and (batch == 1 or length == 1 or tensor.stride(0) == length * distance)
    )
    if not regular or tensor.numel() == 0:
        tensor, distance = tensor.contiguous(), width
    span = max(0, (batch * length - 1) * distance + width)
    return _numpy(tensor.as_strided((span,), (1,))), distance


def tensor_of(rows: np.ndarray, like: Tensor) -> Tensor:
    """What a kernel wrote, float32 or the bits of bf16, in the shape and type of a tensor."""
    tensor = torch.from_numpy(rows)
    if rows.dtype == np.uint16:
        tensor = tensor.view(torch.bfloat16)
    return tensor.view(like.shape).to(like.dtype)


def _numpy(tensor: Tensor) -> np.ndarray:
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def array(tensor: Tensor) -> np.ndarray:
    """A tensor as a contiguous float32 array, copied when needed."""
    return tensor.detach().float().contiguous().numpy()


def parameter(tensor: Tensor | None, length: int) -> np.ndarray:
    """As `array`, always copied; zeros for an absent parameter.

    `Tensor.numpy` marks a storage as one that cannot be resized, for good, and FSDP2 frees a gathered parameter by
    resizing its storage.
    """
    if tensor is None:
        return np.zeros(length, np.float32)
    return tensor.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format).numpy()


def read_only(weight: Tensor) -> np.ndarray:
    """A contiguous float32 or bf16 tensor as an array, float32 or the bits of bf16, that cannot be written to.

    Never a copy, and its storage can be resized afterwards: see `parameter`.
    """
    weight = weight.detach()
    array = np.from_dlpack(weight.view(torch.uint16) if weight.dtype == torch.bfloat16 else weight)
    array.flags.writeable = False  # the same on every NumPy, so that one kernel is compiled
    return array


def array_or_zeros(tensor: Tensor | None, *shape: int) -> np.ndarray:
    """As `array`; zeros of `shape` for an absent tensor."""
    return np.zeros(shape, np.float32) if tensor is None else array(tensor)


def block_width(batch: int, width: int, threads: int) -> int:
    """Channels a task: as many as a second-level cache allows, and an even share of the work for each thread."""
    blocks = -(-width // WIDEST_BLOCK)
    while batch * blocks < 4 * threads and batch * blocks % threads and width // blocks > NARROWEST_BLOCK:
        blocks += 1
    return -(-width // (blocks * VECTOR)) * VECTOR


def total(parts: np.ndarray, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Sum over the first axis as a tensor."""
    return torch.from_numpy(parts.sum(axis=0) if parts.shape[0] != 1 else parts[0]).reshape(shape).to(dtype)
