"""The folder of one entry: who may write there, what a killed process left, and how `entry.json` changes.

Two locks guard an entry. Its writer's is held as long as data are written that no `entry.json` names yet; the
entry's own while that file, or arrays beside it, change. What lies there unnamed while a lock is free was left by
a process that was killed, and whoever takes the lock next removes it.
"""

import hashlib
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from emma_viz.errors import StudyError
from emma_viz.files.locks import is_held, locked
from emma_viz.study.arrays import note_of, to_tensor
from emma_viz.study.entries import ARRAYS, BATCH_NAME, DATA, ENTRY, Entry, folder_name, read_entry
from emma_viz.study.files import (
    children,
    make_folder,
    own,
    remove_file,
    remove_folder,
    sweep_parts,
    write_json,
    write_study_tensors,
)
from emma_viz.study.study_file import STUDY

LOCKS = ".locks"
WRITER = ".writer"
"""How the name of a writer's lock ends."""


class EntryFolder:
    """The folder of one entry, and the only way that what lies in it changes.

    Args:
        root: the study's folder.
        name: the entry's name.

    Raises:
        StudyError: the name is empty, or its folder is a link or no folder.
    """

    def __init__(self, root: Path, name: str):
        self._place(root, name, folder_name(name))

    @classmethod
    def at(cls, root: Path, folder: str) -> "EntryFolder":
        """The folder of an entry whose name may have been lost with its `entry.json`."""
        found = cls.__new__(cls)
        found._place(root, folder, folder)
        return found

    def _place(self, root: Path, name: str, folder: str) -> None:
        self.root, self.name, self.folder = root, name, folder
        self.path = own(root, "entries", folder, kind="folder")

    @property
    def exists(self) -> bool:
        """Whether the study has this entry."""
        return (self.path / ENTRY).is_file()

    def read(self) -> Entry:
        """The entry; its arrays stay closed.

        Raises:
            StudyError: the file is missing, damaged or not of this form.
        """
        return read_entry(self.root, self.folder)

    def batch(self, entry: Entry, index: int) -> Path:
        """The folder of one batch.

        Raises:
            StudyError: it is a link, or lies in one.
        """
        return own(self.root, "entries", self.folder, entry.data, f"{index:06d}", kind="folder")

    def arrays(self, entry: Entry, name: str) -> Path:
        """The file of some arrays.

        Raises:
            StudyError: it is a link, or lies in one.
        """
        return own(self.root, "entries", self.folder, entry.data, entry.arrays[name])

    def beside(self, entry: Entry, index: int, name: str) -> Path:
        """The file of some arrays of one batch.

        Raises:
            StudyError: it is a link, or lies in one.
        """
        return own(self.batch(entry, index), f"arrays-{folder_name(name)}.safetensors")

    def require_free(self) -> None:
        """Refuse to go on if the entry exists.

        Raises:
            StudyError: it does.
        """
        if self.exists:
            raise StudyError(
                f"{self.root} already has an entry {self.name!r}. Give another name, or pass overwrite=True "
                "to replace it."
            )

    @contextmanager
    def writing(self) -> Generator[None, None, None]:
        """Hold the writer's lock, which nobody waits for: a data set may take days. What a killed writer left is gone.

        Raises:
            StudyError: another writer is at work, or the study was removed.
        """
        self._require_study()
        with ExitStack() as held:
            # Whoever removes a study that has no entries yet holds this lock, and then finds the writer's held.
            with lock(self.root, "study", f"the folder {self.root}"):
                held.enter_context(self._locked("writer", 0.0))
                self._require_study()
            self._sweep_data()
            yield

    @contextmanager
    def deriving(self) -> Generator[None, None, None]:
        """Hold the lock of whoever writes arrays beside batches that are there.

        Raises:
            StudyError: another does.
        """
        with self._locked("derived", 0.0):
            yield

    def _require_study(self) -> None:
        if not own(self.root, STUDY).is_file():
            raise StudyError(f"{self.root} is no study any more: its {STUDY} was removed. Begin again.")

    def try_writing(self, stack: ExitStack) -> bool:
        """Take the writer's lock until `stack` is closed, unless another has it; whether it was taken."""
        try:
            stack.enter_context(self.writing())
        except StudyError as error:
            if is_held(error):
                return False
            raise
        return True

    @contextmanager
    def new_data(self) -> Generator[str, None, None]:
        """A new folder for data, removed again if the block fails; the writer's lock is held."""
        taken = {path.name for path in children(self.path)}
        # Numbered, not drawn, so that the same work ends in the same files.
        data = next(name for number in range(len(taken) + 1) if (name := f"data-{number:08x}") not in taken)
        make_folder(self.path / data)
        try:
            yield data
        except BaseException:
            # An interrupt may come after the entry was committed: then its data belong to the study.
            if not (self.exists and self.read().data == data):
                remove_folder(self.path / data)
                self._remove_if_empty()
            raise

    def commit(self, entry: Entry, *, overwrite: bool) -> None:
        """Make `entry` part of the study, and delete the data of the one it replaces; the writer's lock is held.

        Raises:
            StudyError: the entry exists and `overwrite` is False, or it cannot be written.
        """
        with self._locked("entry"):
            if not overwrite:
                self.require_free()
            write_json(own(self.path, ENTRY), entry.to_json())
            self._sweep_data()

    def change(self, change: Callable[[Entry], Entry], *, data: str) -> None:
        """Change the entry, as it is on disk at this moment, in one step.

        Args:
            change: gives the new entry, or raises.
            data: the folder that the caller has written to.

        Raises:
            StudyError: the entry was replaced meanwhile, or cannot be written.
        """
        with self._locked("entry"):
            entry = self.read()
            if entry.data != data:
                raise StudyError(
                    f"Another process replaced the entry {self.name!r} of {self.root} while it was written "
                    "to."
                )
            changed = change(entry)
            write_json(own(self.path, ENTRY), changed.to_json())
            if changed.arrays != entry.arrays:
                self._sweep_arrays(changed)

    def save_arrays(
        self, name: str, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any], *, overwrite: bool
    ) -> None:
        """Store named arrays beside the entry's data; see `Study.save_arrays`."""
        tensors = {key: to_tensor(key, array) for key, array in arrays.items()}
        note = note_of(name, arrays, meta)
        file = f"{folder_name(name)}.{_digest(arrays, note)}.safetensors"
        with self._locked("entry"):
            entry = self.read()
            if name in entry.arrays and not overwrite:
                raise StudyError(
                    f"The entry {self.name!r} already has arrays {name!r}; pass overwrite=True to replace them."
                )
            self._sweep_arrays(entry)
            try:
                write_study_tensors(own(self.path, entry.data, file), tensors, note)
                named = replace(entry, arrays={**entry.arrays, name: file})
                write_json(own(self.path, ENTRY), named.to_json())
            finally:
                # What was replaced, or, if this failed, what was written: all that the entry does not name.
                if self.exists:
                    self._sweep_arrays(self.read())

    def sweep(self) -> None:
        """Remove what killed processes left, where no lock is held."""
        with suppress(StudyError), self._locked("writer", 0.0):
            self._sweep_data()
        with suppress(StudyError), self._locked("entry", 0.0):
            sweep_parts(self.path)
            if self.exists:
                self._sweep_arrays(self.read())

    def _sweep_data(self) -> None:
        """Remove data, and batches, that the entry does not name."""
        entry = self.read() if self.exists else None
        for path in children(self.path):
            if DATA.fullmatch(path.name) and (entry is None or path.name != entry.data):
                remove_folder(path)
        if entry is not None:
            for path in children(own(self.path, entry.data, kind="folder")):
                if BATCH_NAME.fullmatch(path.name) and int(path.name) >= len(entry.samples):
                    remove_folder(path)
        self._remove_if_empty()

    def _sweep_arrays(self, entry: Entry) -> None:
        """Remove arrays that the entry does not name, and halves of files."""
        sweep_parts(self.path)
        data = own(self.path, entry.data, kind="folder")
        sweep_parts(data)
        for path in children(data):
            if ARRAYS.fullmatch(path.name) and path.name not in entry.arrays.values():
                remove_file(path)

    def _remove_if_empty(self) -> None:
        if not self.exists:
            with suppress(OSError):
                self.path.rmdir()

    @contextmanager
    def _locked(self, what: str, seconds: float | None = None) -> Generator[None, None, None]:
        with lock(self.root, f"{self.folder}.{what}", f"the entry {self.name!r} of {self.root}", seconds):
            yield


@contextmanager
def lock(root: Path, name: str, what: str, seconds: float | None = None) -> Generator[None, None, None]:
    """Hold one of a study's locks; see `emma_viz.files.locks.locked`.

    Raises:
        StudyError: another holds it, or it cannot be taken.
    """
    make_folder(own(root, LOCKS, kind="folder"))
    with locked(own(root, LOCKS, name), what, error=StudyError, seconds=seconds):
        yield


def _digest(arrays: Mapping[str, np.ndarray], note: Mapping[str, str]) -> str:
    """8 hexadecimal digits of what is stored, so that the same arrays have the same file."""
    digest = hashlib.sha256(repr(sorted(note.items())).encode(errors="backslashreplace"))
    for key, array in arrays.items():
        digest.update(f"{key!r}:{array.dtype.str}:{array.shape}:".encode(errors="backslashreplace"))
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:8]
