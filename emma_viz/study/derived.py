"""DerivedWriter: arrays that are made of what an entry holds, one batch at a time, and kept beside each batch."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from emma_viz.errors import StudyError
from emma_viz.study.arrays import read_arrays, write_arrays
from emma_viz.study.entries import Entry
from emma_viz.study.files import sweep_parts
from emma_viz.study.folders import EntryFolder


class DerivedWriter:
    """Writes arrays beside the batches of an entry that was recorded before, as a context manager.

    They are part of the study when the block has ended well, all together. Those that an interrupted block has written
    are found by `kept`, and need not be made again. `Study.batch_arrays` reads them.

    Examples:
        >>> with DerivedWriter(study.path, "pope", "decoding") as writer:
        ...     for index, trace in enumerate(study.traces("pope")):
        ...         writer.write(index, *decode(trace, lens).to_arrays())

    Args:
        root: the study's folder.
        entry: its name; no data set of several shards.
        name: of the arrays.
        instead_of: names of arrays of the whole entry that these replace.

    Raises:
        StudyError: there is no such entry; on entering, another writer is at work on the same, or the entry was changed
            meanwhile; on leaving, some batch has no arrays.
    """

    def __init__(self, root: Path, entry: str, name: str, *, instead_of: tuple[str, ...] = ()):
        self._folder, self._name, self._instead_of = EntryFolder(root, entry), name, instead_of
        self._entry = self._folder.read()
        self._lock = ExitStack()

    def __enter__(self) -> "DerivedWriter":
        self._lock.enter_context(self._folder.deriving())
        try:
            self._require_unchanged(self._folder.read())
            for index in range(len(self._entry.samples)):
                sweep_parts(self._folder.batch(self._entry, index))
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            if kind is None:
                self._change(self._named)
        finally:
            self._lock.close()

    def kept(self, index: int) -> dict[str, Any] | None:
        """The JSON object beside the arrays that one batch has already; None where it has none that can be read."""
        try:
            return read_arrays(self._folder.beside(self._entry, index, self._name))[1]
        except StudyError:
            return None

    def write(self, index: int, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Keep the arrays of one batch.

        Args:
            index: of the batch.
            arrays: booleans, integers, floats or complex64, of any shape.
            meta: a JSON object that comes back with them.

        Raises:
            StudyError: they cannot be written, or the entry was changed meanwhile.
        """
        self._change(self._unnamed)  # until all are written, some may be of another making
        write_arrays(self._folder.beside(self._entry, index, self._name), self._name, arrays, meta)

    def _change(self, change) -> None:
        """Change the entry as it is now, where that makes a difference."""
        if change(there := self._folder.read()) != there:
            self._folder.change(change, data=self._entry.data)

    def _unnamed(self, entry: Entry) -> Entry:
        self._require_unchanged(entry)
        return replace(entry, derived=tuple(each for each in entry.derived if each != self._name))

    def _named(self, entry: Entry) -> Entry:
        self._require_unchanged(entry)
        if lacks := [index for index in range(len(entry.samples)) if self.kept(index) is None]:
            raise StudyError(
                f"The batch {lacks[0]} of the entry {entry.name!r} of {self._folder.root} has no arrays {self._name!r}."
            )
        arrays = {name: file for name, file in entry.arrays.items() if name not in self._instead_of}
        names = (*self._unnamed(entry).derived, self._name)
        return replace(entry, derived=names, arrays=arrays)

    def _require_unchanged(self, entry: Entry) -> None:
        if (entry.data, entry.samples) != (self._entry.data, self._entry.samples):
            raise StudyError(
                f"The entry {entry.name!r} of {self._folder.root} was written to meanwhile; run this again when it is "
                "whole."
            )
