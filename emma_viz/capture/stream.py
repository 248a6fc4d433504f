"""StudyWriter: a data set that does not fit in memory, written into a study one batch at a time."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from emma_viz.capture.entries import EntryFolder, describe
from emma_viz.capture.trace import Trace
from emma_viz.capture.trace_files import read_trace, write_trace
from emma_viz.errors import StudyError


class StudyWriter:
    """Appends traces to one entry of a study, as a context manager.

    Each batch is part of the study once `append_batch` returns; whatever happens later, it stays and can be
    read. An interrupted stream goes on with `resume=True`, after `n_samples` samples.

    Example:
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
        self._lock.enter_context(folder.locked("writer", seconds=0.0))
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

    def append_batch(self, trace: Trace) -> None:
        """Add a batch; when this returns, the batch is part of the study.

        Raises:
            StudyError: the batch was recorded differently from the first one, or cannot be written.
        """
        root, folder, likeness = self._folder.root, self._folder, _likeness(trace)
        _require_alike(self._likeness or likeness, likeness)
        if self._data is None:
            with folder.new_data() as data:
                entry = describe(trace, name=folder.name, kind="stream", data=data)
                write_trace(root, folder.path / entry.part(0), trace)
                folder.commit(entry.with_batch(trace), overwrite=self._overwrite)
            self._data, self._likeness = data, likeness
        else:
            # What a crash left under this number is written over.
            write_trace(root, folder.path / folder.read().part(len(self._samples)), trace)
            folder.update(lambda entry: entry.with_batch(trace), data=self._data)
        self._samples = (*self._samples, len(trace))

    def _continue(self) -> None:
        entry = self._folder.read()
        if entry.kind != "stream":
            raise StudyError(
                f"The entry {entry.name!r} of {self._folder.root} is no stream but a {entry.kind}; give "
                "another name."
            )
        self._data, self._samples = entry.data, entry.samples
        self._likeness = _likeness(read_trace(self._folder.root, self._folder.path / entry.part(0)))


def _likeness(trace: Trace) -> dict[str, object]:
    """All that the batches of a stream must have in common to be read as one trace."""

    def kept(states: Mapping[str, Tensor]) -> dict[str, str]:
        return {site: f"{values.dtype}{list(values.shape[3:])}" for site, values in states.items()}

    return {
        "model": f"{trace.model.name} ({trace.model.fingerprint[:16]}, {trace.model.dtype})",
        "sites": trace.sites,
        "layers": trace.layers,
        "tokens": trace.token_kind,
        "states": kept(trace.states),
        "states of answers": kept(trace.generated),
        "images": bool(trace.geometry),
        "answers": bool(trace.answers),
        "sampling": None if trace.sampling is None else replace(trace.sampling, seed=None),
        "prompt ids": bool(trace.prompt_ids),
        "size of views": trace.views.shape[1:],
        "hooks": tuple(report.name for report in trace.hooks),
    }


def _require_alike(first: Mapping[str, object], other: Mapping[str, object]) -> None:
    differ = [
        f"{name} ({first[name]} first, now {other[name]})" for name in first if first[name] != other[name]
    ]
    if differ:
        raise StudyError(
            f"All batches of a stream are recorded alike; this one differs in {'; '.join(differ)}. Start "
            "another entry."
        )
