"""StudyWriter: a data set that does not fit in memory, written into a study one batch at a time."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from emma_viz.capture.trace import Trace
from emma_viz.errors import StudyError
from emma_viz.study.arrays import write_arrays
from emma_viz.study.entries import Entry, describe
from emma_viz.study.folders import EntryFolder
from emma_viz.study.likeness import likeness, require_alike
from emma_viz.study.trace_files import read_trace, write_trace

Arrays = tuple[Mapping[str, np.ndarray], Mapping[str, Any]]
"""Named arrays, and the JSON object that comes back with them."""


class StudyWriter:
    """Appends traces to one entry of a study, as a context manager.

    Each batch is part of the study once `append_batch` returns; whatever happens later, it stays and can be
    read. An interrupted stream goes on with `resume=True`, after `n_samples` samples.

    Examples:
        >>> with study.writer("pope") as writer:
        ...     for images, questions in batches:
        ...         writer.append_batch(record(model, images, questions))

    Args:
        root: the study's folder.
        name: of the entry.
        resume: go on with an entry that a writer left; a new one is begun if there is none.
        overwrite: replace the entry, at the first batch.

    Raises:
        StudyError: the entry exists and neither is set; both are set; on entering, another writer is at work
            on it.
    """

    def __init__(self, root: Path, name: str, *, resume: bool = False, overwrite: bool = False):
        if resume and overwrite:
            raise StudyError(
                "A writer either resumes an entry or overwrites it; pass one of resume and overwrite."
            )
        self._folder = EntryFolder(root, name)
        self._resume, self._overwrite = resume, overwrite
        self._lock = ExitStack()
        self._data: str | None = None
        self._likeness: dict[str, object] | None = None
        self._samples: tuple[int, ...] = ()
        if not (resume or overwrite):
            self._folder.require_free()

    def __enter__(self) -> "StudyWriter":
        folder = self._folder
        self._lock.enter_context(folder.writing())
        try:
            if self._resume and folder.exists:
                self._continue()
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._lock.close()

    @property
    def n_samples(self) -> int:
        """How many samples the entry holds: a resumed run goes on with the next one."""
        return sum(self._samples)

    def append_batch(self, trace: Trace, beside: Mapping[str, Arrays] | None = None) -> None:
        """Add a batch; when this returns, the batch is part of the study.

        Args:
            trace: with its states, or without them (`trace.without_states()`).
            beside: by name, arrays and a JSON object that are kept beside the trace; every batch has the same names.

        Raises:
            StudyError: the batch was recorded differently from the first one, or cannot be written.
        """
        arrays = dict(beside or {})
        folder, mine = self._folder, _likeness(trace, arrays)
        require_alike(self._likeness or mine, mine)
        if self._data is None:
            with folder.new_data() as data:
                entry = describe(trace, name=folder.name, kind="stream", data=data, beside=tuple(arrays))
                self._write(entry, 0, trace, arrays)
                folder.commit(entry.with_batch(trace), overwrite=self._overwrite)
            self._data, self._likeness = data, mine
        else:
            # What a crash left under this number is written over.
            self._write(folder.read(), len(self._samples), trace, arrays)
            folder.change(lambda entry: entry.with_batch(trace), data=self._data)
        self._samples = (*self._samples, len(trace))

    def _write(self, entry: Entry, index: int, trace: Trace, arrays: Mapping[str, Arrays]) -> None:
        write_trace(self._folder.root, self._folder.batch(entry, index), trace)
        for name, (values, meta) in arrays.items():
            write_arrays(self._folder.beside(entry, index, name), name, values, meta)

    def _continue(self) -> None:
        entry = self._folder.read()
        if entry.kind != "stream":
            raise StudyError(
                f"The entry {entry.name!r} of {self._folder.root} is no stream but a {entry.kind}; give "
                "another name."
            )
        self._data, self._samples = entry.data, entry.samples
        first = read_trace(self._folder.root, self._folder.batch(entry, 0), samples=entry.samples[0])
        self._likeness = _likeness(first, entry.beside)


def _likeness(trace: Trace, beside: Iterable[str]) -> dict[str, object]:
    return likeness(trace) | {"arrays beside it": tuple(beside)}
