"""PyTorch's zip archives (`.pt`, `.bin`): one pickle that describes, and one stored entry for every storage."""

import io
import os
import struct
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emma_viz.checkpoints.readers.allowance import Allowance
from emma_viz.checkpoints.readers.pickles import PickledTensor, read_pickle
from emma_viz.checkpoints.readers.tensors import TensorRef
from emma_viz.errors import CheckpointError

LOCAL_HEADER = struct.Struct("<4s5H3L2H")
"""The fixed part of a zip entry's local header; its name and extra field, then the data, follow."""
DIRECTORY = 8 * 2**20
"""Bytes of the longest list of entries that is read. A model of 64 layers has 0.1 MB of it, its optimizer 0.3."""
REPEATED = 64 * 2**20
"""Bytes that tensors may hold beyond twice the file: an expanded tensor repeats its values, a tied head another's."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An archive whose pickle has been read and whose storages have been listed."""

    path: Path
    root: Any
    """The top-level object, inert."""
    entries: dict[str, zipfile.ZipInfo]
    """Storage key → zip entry."""

    def locate_all(self, tensors: dict[str, PickledTensor]) -> dict[str, TensorRef]:
        """Find the bytes of tensors in the file.

        Raises:
            CheckpointError: see `locate`; or together they are far more than the file has.
        """
        references = {key: self.locate(tensor, key) for key, tensor in tensors.items()}
        size = self.path.stat().st_size
        total = sum(reference.numel * reference.dtype.itemsize for reference in references.values())
        if total > 2 * size + REPEATED:
            raise CheckpointError(
                f"{self.path}: the file has {size} bytes, and its tensors would fill more than twice as many, because "
                "they repeat the same values; no model does. It was made to fill the memory."
            )
        return references

    def locate(self, tensor: PickledTensor, key: str) -> TensorRef:
        """Find a tensor's bytes in the file.

        Args:
            tensor: what the pickle says.
            key: its name, for messages.

        Raises:
            CheckpointError: its storage is missing, compressed, or smaller than the tensor.
        """
        storage = tensor.storage
        entry = self.entries.get(storage.key)
        if entry is None:
            raise CheckpointError(f"{self.path} lacks the storage {storage.key!r} of {key}; it is damaged.")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(
                f"{self.path}: the storage of {key} is compressed; torch never writes it so. Save it with torch.save."
            )
        size = tensor.dtype.itemsize
        reference = TensorRef(
            path=self.path,
            dtype=tensor.dtype,
            shape=tensor.shape,
            strides=tensor.strides,
            offset=self._data_offset(entry) + tensor.offset * size,
        )
        needed = max(tensor.offset * size + reference.span, storage.numel * storage.dtype.itemsize)
        if needed > entry.file_size:
            raise CheckpointError(
                f"{self.path}: {key} needs more bytes than its storage has ({entry.file_size}); the file is damaged."
            )
        return reference

    def _data_offset(self, entry: zipfile.ZipInfo) -> int:
        """Bytes from the start of the file to the entry's data; the central directory does not tell."""
        with self.path.open("rb") as file:
            file.seek(entry.header_offset)
            fields = file.read(LOCAL_HEADER.size)
        if len(fields) < LOCAL_HEADER.size or not fields.startswith(b"PK\x03\x04"):
            raise CheckpointError(
                f"{self.path}: the entry {entry.filename[:100]!r} is damaged. Download or copy it again."
            )
        *_, name_length, extra_length = LOCAL_HEADER.unpack(fields)
        return entry.header_offset + LOCAL_HEADER.size + name_length + extra_length


def read_archive(path: Path, allowance: Allowance) -> Archive:
    """Read an archive's directory and pickle; no tensor is read and nothing is executed.

    Raises:
        UnsafePickleError: the pickle names something that would run code.
        CheckpointError: the archive is truncated, damaged, not one that `torch.save` wrote, or takes more than the
            allowance to read.
    """
    with _opened(path) as archive:
        entries = archive.infolist()
        prefix = _prefix(path, entries)
        by_name = {entry.filename: entry for entry in entries}
        order = by_name.get(f"{prefix}/byteorder")
        if order is not None and _content(archive, order, path, limit=len(b"little")) != b"little":
            raise CheckpointError(f"{path} was written on a big-endian machine, which is not supported.")
        described = by_name[f"{prefix}/data.pkl"]
        allowance.spend_size(described.file_size, str(path))
        pickle = _content(archive, described, path, limit=described.file_size)
    folder = f"{prefix}/data/"
    return Archive(
        path=path,
        root=read_pickle(pickle, where=str(path), allowance=allowance),
        entries={e.filename.removeprefix(folder): e for e in entries if e.filename.startswith(folder)},
    )


class _ShortReads(io.FileIO):
    """A file of which zipfile gets no more at once than a list of entries may have: it reads that whole."""

    def read(self, size: int | None = -1, /) -> bytes:
        left = os.fstat(self.fileno()).st_size - self.tell()
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > DIRECTORY:
            raise CheckpointError(
                f"{self.name}: the list of what is in it has {wanted} bytes, more than {DIRECTORY}; it was damaged or "
                "made to fill the memory."
            )
        return super().read(wanted) or b""


@contextmanager
def _opened(path: Path) -> Generator[zipfile.ZipFile, None, None]:
    """A zip file, whatever zipfile raises on a damaged one being a CheckpointError."""
    try:
        with _ShortReads(str(path)) as file, zipfile.ZipFile(file) as archive:
            yield archive
    except CheckpointError:
        raise
    except Exception as error:  # zipfile may break in any way on a damaged file; all mean the same.
        raise CheckpointError(
            f"{path} is truncated or damaged ({error}). Download or copy it again; its end is missing or unreadable."
        ) from error


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, *, limit: int) -> bytes:
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise CheckpointError(f"{path} is compressed; torch never writes it so. Save it with torch.save.")
    if entry.file_size > limit:
        raise CheckpointError(
            f"{path}: the entry {entry.filename[:100]!r} has {entry.file_size} bytes; expected at most {limit}."
        )
    with archive.open(entry) as file:
        parts = iter(lambda: file.read(DIRECTORY // 2), b"")
        return b"".join(parts)


def _prefix(path: Path, entries: list[zipfile.ZipInfo]) -> str:
    """The archive's one top-level folder."""
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names):
        raise CheckpointError(f"{path} holds two entries of the same name; it was tampered with or damaged.")
    found = [
        name.removesuffix("/data.pkl")
        for name in names
        if name.count("/") == 1 and name.endswith("/data.pkl")
    ]
    if len(found) != 1:
        raise CheckpointError(
            f"{path} is a zip file, but not one that torch.save wrote: it needs exactly one `<name>/data.pkl`."
        )
    if f"{found[0]}/constants.pkl" in names:
        raise CheckpointError(
            f"{path} is a TorchScript program, not weights. Save its state_dict with torch.save."
        )
    return found[0]
