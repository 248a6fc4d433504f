"""Arrays that came with a file: a zip of .npy files, judged as a whole before one of them is unpacked."""

import base64
import io
import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from emma_viz.errors import InputError
from emma_viz.files.zips import ZIP_DAMAGE

ArrayKind = Literal["numbers", "bytes", "integers"]
_TYPES: dict[ArrayKind, tuple[str, ...]] = {
    "numbers": ("<f2", "<f4", "<f8", ">f2", ">f4", ">f8"),
    "bytes": ("|u1",),
    "integers": ("<i8",),
}
_MAGIC = b"\x93NUMPY\x01\x00"
_LONGEST = 1024
"""Bytes of the longest header."""
_SIDES = 8
_START = len(_MAGIC) + 2
_HEADER = re.compile(
    rb"\{'descr': '([<>|][a-z]\d)', 'fortran_order': (False|True), 'shape': \(((?:\d{1,9}(?:, ?|,?(?=\))))*)\), \} *\n"
)
"""As numpy writes it for arrays of plain numbers; everything else that its format can say is refused."""
_DAMAGE = (*ZIP_DAMAGE, RuntimeError, ValueError, OverflowError)
_PIECE = 2**20


@dataclass(frozen=True)
class _Head:
    """What the beginning of an array says of it."""

    dtype: np.dtype
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    start: int
    """Bytes before its values."""

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def unpack_arrays(text: str, kinds: Mapping[str, ArrayKind], *, limit: int) -> dict[str, np.ndarray]:
    """The arrays of a compressed npz.

    Args:
        text: the npz in base64.
        kinds: the name of every array that it must hold → what it is of. It may hold no other.
        limit: bytes that all arrays together may unpack to.

    Raises:
        InputError: it is no such archive, holds other arrays or types, or more than `limit`.
    """
    try:
        packed = base64.b64decode(text, validate=True)
        # Counted before the archive's directory is read: a million names take a gigabyte.
        if packed.count(b"PK\x01\x02") > len(kinds) + 16:
            raise InputError(f"expected {len(kinds)} arrays, got more")
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            members = _members(archive, kinds)
            heads = {name: _head(archive, info, name, kinds[name]) for name, info in members.items()}
            if (size := sum(head.size for head in heads.values())) > limit:
                raise InputError(
                    f"its arrays would take {size / 2**20:.0f} MB, and at most {limit / 2**20:.0f} MB are read; if the "
                    "file is your own, read it with --any-size"
                )
            return {name: _array(archive, info, heads[name], name) for name, info in members.items()}
    except InputError:
        raise
    except _DAMAGE as error:
        raise InputError(f"its arrays cannot be unpacked: {error}") from error


def _members(archive: zipfile.ZipFile, kinds: Mapping[str, ArrayKind]) -> dict[str, zipfile.ZipInfo]:
    found = [info.filename.removesuffix(".npy") for info in archive.infolist()]
    if missing := sorted(set(kinds) - set(found)):
        raise InputError(f"the array {missing[0][:100]} is missing")
    if len(found) > len(kinds):
        spare = next((name for name in found if name not in kinds), found[0])
        raise InputError(f"it holds the array {spare[:100]!r}, which nothing names")
    for info in archive.infolist():
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            raise InputError("its arrays are packed or encrypted in a way that emma_viz does not write")
    return dict(zip(found, archive.infolist(), strict=True))


def _head(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, kind: ArrayKind) -> _Head:
    with archive.open(info) as file:
        start = file.read(_START)
        length = int.from_bytes(start[len(_MAGIC) :], "little")
        text = file.read(length) if start.startswith(_MAGIC) and length <= _LONGEST else b""
    said = _HEADER.fullmatch(text)
    types = _TYPES[kind]
    if said is None or said[1].decode() not in types:
        raise InputError(f"expected {name} to be an array of {kind} ({', '.join(types)}), got something else")
    shape = tuple(int(side) for side in said[3].split(b",") if side.strip())
    head = _Head(np.dtype(said[1].decode()), shape, "F" if said[2] == b"True" else "C", _START + length)
    if info.file_size != head.start + head.size or len(shape) > _SIDES:
        raise InputError(f"{name} has another size than its shape {shape[:8]} says")
    return head


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, head: _Head, name: str) -> np.ndarray:
    """Read in pieces, so that no second copy of an array is ever held."""
    array = np.empty(head.shape, head.dtype, order=head.order)
    target = array.ravel(order="K").view(np.uint8)
    with archive.open(info) as file:
        file.read(head.start)
        for at in range(0, head.size + 1, _PIECE):
            piece = file.read(_PIECE)
            if len(piece) != min(_PIECE, head.size - at):
                raise InputError(f"{name} ends too early")
            target[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
    return array
