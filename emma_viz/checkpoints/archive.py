"""PyTorch's zip archives (`.pt`, `.bin`): one pickle that describes, and one stored entry for every storage."""

import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emma_viz.checkpoints.pickles import PickledTensor, read_pickle
from emma_viz.checkpoints.tensors import TensorRef
from emma_viz.errors import CheckpointError

LOCAL_HEADER = struct.Struct("<4s5H3L2H")
"""The fixed part of a zip entry's local header; its name and extra field, then the data, follow."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An archive whose pickle has been read and whose storages have been listed."""

    path: Path
    root: Any
    """The top-level object, inert."""
    entries: dict[str, zipfile.ZipInfo]
    """Storage key → zip entry."""

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
        size = storage.dtype.itemsize
        reference = TensorRef(
            path=self.path,
            dtype=storage.dtype,
            shape=tensor.shape,
            strides=tensor.strides,
            offset=self._data_offset(entry) + tensor.offset * size,
        )
        if max(tensor.offset * size + reference.span, storage.numel * size) > entry.file_size:
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
                f"{self.path}: the entry {entry.filename} is damaged. Download or copy it again."
            )
        *_, name_length, extra_length = LOCAL_HEADER.unpack(fields)
        return entry.header_offset + LOCAL_HEADER.size + name_length + extra_length


def read_archive(path: Path) -> Archive:
    """Read an archive's directory and pickle; no tensor is read and nothing is executed.

    Raises:
        UnsafePickleError: the pickle names something that would run code.
        CheckpointError: the archive is truncated, damaged, or not one that `torch.save` wrote.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            prefix = _prefix(path, entries)
            if archive.getinfo(f"{prefix}/data.pkl").compress_type != zipfile.ZIP_STORED:
                raise CheckpointError(
                    f"{path} is compressed; torch never writes it so. Save it with torch.save."
                )
            pickle = archive.read(f"{prefix}/data.pkl")
            order = f"{prefix}/byteorder"
            if order in archive.namelist() and archive.read(order) != b"little":
                raise CheckpointError(f"{path} was written on a big-endian machine, which is not supported.")
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise CheckpointError(
            f"{path} is truncated or damaged ({error}). Download or copy it again; its end is missing or unreadable."
        ) from error
    folder = f"{prefix}/data/"
    return Archive(
        path=path,
        root=read_pickle(pickle, where=str(path)),
        entries={e.filename.removeprefix(folder): e for e in entries if e.filename.startswith(folder)},
    )


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
