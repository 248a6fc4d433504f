"""Tensors that still lie in a file: read in small windows, straight into the type that is wanted.

A checkpoint of 2.8 billion parameters must not be held twice. `TensorRef.read` allocates the target tensor, maps
the file a window at a time, converts the window into its place, and lets go of it; so the peak is the model
plus one window, whatever the type on disk.
"""

import math
import mmap
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from emma_viz.errors import CheckpointError
from emma_viz.finite import is_finite

WINDOW_BYTES = 8 * 2**20
"""How much of the file is mapped at a time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TensorRef:
    """Where a tensor lies in a file, and how it is laid out."""

    path: Path
    """The file that holds the values."""
    dtype: torch.dtype
    """Type on disk."""
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """Elements between neighbours along each axis."""
    offset: int
    """Bytes from the start of the file to the first element."""

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def span(self) -> int:
        """Bytes from the first element to the end of the last one."""
        if self.numel == 0:
            return 0
        last = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        return (last + 1) * self.dtype.itemsize

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie one after the other in row-major order."""
        return self.numel == 0 or all(
            stride == expected or size == 1
            for size, stride, expected in zip(
                self.shape, self.strides, row_major_strides(self.shape), strict=True
            )
        )

    def read(self, *, dtype: torch.dtype | None = None, device: str | torch.device = "cpu") -> Tensor:
        """Copy the tensor out of the file.

        Args:
            dtype: type wanted; None keeps the type on disk.
            device: where the tensor goes; a window at a time, so that the whole is never held on the CPU as well.

        Returns:
            A new contiguous tensor of `shape`.

        Raises:
            CheckpointError: the file ends before the tensor does.
        """
        target = torch.empty(self.shape, dtype=dtype or self.dtype, device=device)
        if self.numel == 0:
            return target
        with _open(self) as file:
            if not self.contiguous:
                window = _window(file.fileno(), self.offset, self.span, self.dtype)
                target.copy_(window.as_strided(self.shape, self.strides))
                return target
            flat = target.view(-1)
            step = max(1, WINDOW_BYTES // self.dtype.itemsize)
            for start in range(0, self.numel, step):
                count = min(step, self.numel - start)
                begin = self.offset + start * self.dtype.itemsize
                flat[start : start + count].copy_(
                    _window(file.fileno(), begin, count * self.dtype.itemsize, self.dtype)
                )
        return target

    def is_finite(self, *, dtype: torch.dtype) -> bool:
        """Whether all values are numbers, also as `dtype`; read a window at a time.

        Raises:
            CheckpointError: the file ends before the tensor does.
        """
        with _open(self) as file:
            if not self.contiguous:
                window = _window(file.fileno(), self.offset, self.span, self.dtype)
                return is_finite(window.as_strided(self.shape, self.strides).to(dtype))
            step = max(1, WINDOW_BYTES // self.dtype.itemsize)
            for start in range(0, self.numel, step):
                count, begin = min(step, self.numel - start), self.offset + start * self.dtype.itemsize
                window = _window(file.fileno(), begin, count * self.dtype.itemsize, self.dtype)
                if not is_finite(window.to(dtype)):
                    return False
        return True

    def sample(self, indices: list[int]) -> Tensor:
        """The elements at row-major flat `indices`, read one by one: a few bytes of however large a tensor."""
        size = self.dtype.itemsize
        found = bytearray()
        with _open(self) as file:
            for index in indices:
                position = 0
                for length, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
                    index, coordinate = divmod(index, length)
                    position += coordinate * stride
                file.seek(self.offset + position * size)
                found += file.read(size)
        if not found:
            return torch.empty(0, dtype=self.dtype)
        return torch.frombuffer(found, dtype=self.dtype)


def row_major_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in elements, of a contiguous tensor of `shape`."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return tuple(strides)


def _open(ref: TensorRef):
    file = ref.path.open("rb")
    if file.seek(0, 2) < ref.offset + ref.span:
        size = file.tell()
        file.close()
        raise CheckpointError(
            f"{ref.path} is truncated: a tensor needs bytes up to {ref.offset + ref.span}, the file has {size}. "
            "Download or copy it again."
        )
    return file


def _window(descriptor: int, begin: int, length: int, dtype: torch.dtype) -> Tensor:
    """A 1-d view of `length` bytes of the file from byte `begin` on; unmapped when the view is dropped."""
    page = begin - begin % mmap.ALLOCATIONGRANULARITY
    # Copy-on-write: torch wants a writable buffer, and nothing written here may reach the file.
    mapped = mmap.mmap(descriptor, begin - page + length, access=mmap.ACCESS_COPY, offset=page)
    if (begin - page) % dtype.itemsize:
        return torch.frombuffer(bytearray(mapped[begin - page :]), dtype=dtype)
    return torch.frombuffer(mapped, dtype=dtype, count=length // dtype.itemsize, offset=begin - page)


def same_values(one: TensorRef, other: TensorRef) -> bool:
    """Whether two tensors hold the same values, compared a window at a time."""
    if one.shape != other.shape:
        return False
    if (one.path, one.offset, one.strides, one.dtype) == (
        other.path,
        other.offset,
        other.strides,
        other.dtype,
    ):
        return True
    if not (one.contiguous and other.contiguous):
        return _same_rows(one, other)
    step = WINDOW_BYTES // max(one.dtype.itemsize, other.dtype.itemsize)
    with _open(one) as first, _open(other) as second:
        for start in range(0, one.numel, step):
            count = min(step, one.numel - start)
            left, right = (
                _window(
                    file.fileno(),
                    ref.offset + start * ref.dtype.itemsize,
                    count * ref.dtype.itemsize,
                    ref.dtype,
                )
                for file, ref in ((first, one), (second, other))
            )
            if not torch.equal(left.float(), right.float()):
                return False
    return True


def _same_rows(one: TensorRef, other: TensorRef) -> bool:
    """The same for tensors that do not lie in order: their rows as the file has them, some at a time."""
    with _open(one) as first, _open(other) as second:
        left, right = (
            _window(file.fileno(), ref.offset, ref.span, ref.dtype).as_strided(ref.shape, ref.strides)
            for file, ref in ((first, one), (second, other))
        )
        step = max(1, WINDOW_BYTES * one.shape[0] // max(one.numel * one.dtype.itemsize, 1))
        return all(
            torch.equal(a.float(), b.float())
            for a, b in zip(left.split(step), right.split(step), strict=True)
        )
