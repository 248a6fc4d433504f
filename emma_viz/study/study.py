"""Study: a folder of traces and arrays that every later step opens without the model.

    study.json                          format and schema version
    images/<hash>.png                   the original images
    entries/<entry>/entry.json          what the entry is; written last, so half an entry is none
    entries/<entry>/<data>/000000/      a trace (of a stream: its batches, numbered)
    entries/<entry>/<data>/*.safetensors  arrays stored beside it

Nothing is pickled, all paths are relative to the study, and opening one reads `study.json` alone.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from emma_viz.capture.sites import nearest
from emma_viz.capture.trace import Trace
from emma_viz.displays import bundle_of
from emma_viz.errors import StudyError
from emma_viz.study.arrays import read_arrays
from emma_viz.study.entries import ENTRY, Entry, describe, folder_name, now, read_entry
from emma_viz.study.files import (
    children,
    explained,
    own,
    sweep_parts,
    write_json,
)
from emma_viz.study.folders import EntryFolder, lock
from emma_viz.study.shards import shards
from emma_viz.study.stream import StudyWriter
from emma_viz.study.study_file import STUDY, read_study_file, require_study
from emma_viz.study.trace_files import (
    IMAGES,
    StoredImages,
    image_file,
    read_trace,
    read_traces,
    trace_files,
    write_trace,
)

MOST_ENTRIES = 10_000
"""Entries that one study holds."""
_ENTRIES_SIZE = 32 * 2**20
"""Bytes of all `entry.json` together."""


class Study:
    """A study folder; see `open_study`.

    Any number of processes may read it while one or more add to it: an entry appears whole, or not at all. A study
    may come from a stranger: names found in its files are those that a study makes, no link in it is followed, and
    nothing outside its folder is read, written or removed.

    Args:
        path: a folder that `open_study(path, create=True)` has made.

    Raises:
        StudyError: it is no study, or of another schema version.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        require_study(self.path)
        read_study_file(self.path)

    def __repr__(self) -> str:
        try:
            names = list(self.entries)
        except StudyError:  # what is damaged is said where it is read
            return f"Study({str(self.path)!r}, entries cannot be read)"
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if names[5:] else "")
        return f"Study({str(self.path)!r}, {len(names)} entries{': ' + shown if names else ''})"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return bundle_of(self)

    @property
    def entries(self) -> dict[str, Entry]:
        """All entries by name, oldest first; no array file is opened.

        Raises:
            StudyError: a description is damaged, or there are too many to be read.
        """
        folders = [path for path in self._folders() if (path / ENTRY).exists()]
        with explained(self.path, "read"):
            size = sum((path / ENTRY).stat().st_size for path in folders)
        if len(folders) > MOST_ENTRIES or size > _ENTRIES_SIZE:
            raise StudyError(
                f"{self.path}: expected at most {MOST_ENTRIES:,} entries, described in {_ENTRIES_SIZE:,} bytes; got "
                f"{len(folders):,} in {size:,}. Open one by its name, or split the study."
            )
        found = sorted(
            (read_entry(self.path, path.name) for path in folders),
            key=lambda entry: (entry.created, entry.name),
        )
        return {entry.name: entry for entry in found}

    def _folders(self) -> list[Path]:
        return [path for path in children(own(self.path, "entries", kind="folder")) if path.is_dir()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(name.strip()) and EntryFolder(self.path, name).exists

    def entry(self, name: str) -> Entry:
        """One entry.

        Raises:
            StudyError: there is none of that name; the message names the nearest.
        """
        if name not in self:
            raise StudyError(f"{self.path} has no entry {name!r}. {nearest(name, self.entries)}")
        return EntryFolder(self.path, name).read()

    def add_trace(self, trace: Trace, name: str | None = None, *, overwrite: bool = False) -> str:
        """Store a trace.

        Args:
            trace: with its states, or without them (`trace.without_states()`).
            name: of the entry; made of the model's name and the image's hash when not given.
            overwrite: replace an entry of that name, with the arrays stored beside it, which belonged to the
                old trace.

        Returns:
            The entry's name.

        Raises:
            StudyError: the entry exists and `overwrite` is False, or a file cannot be written.
        """
        with ExitStack() as stack:
            if name is None:
                folder = self._take_name(trace, stack)
            else:
                folder = EntryFolder(self.path, name)
                stack.enter_context(folder.writing())
            if not overwrite:
                folder.require_free()
            data = stack.enter_context(folder.new_data())
            entry = describe(trace, name=folder.name, kind="trace", data=data)
            write_trace(self.path, folder.batch(entry, 0), trace)
            folder.commit(entry.with_batch(trace), overwrite=overwrite)
        return folder.name

    def add_entry(self, name: str, *, overwrite: bool = False) -> str:
        """Add an entry for named arrays alone, without a trace.

        Returns:
            The entry's name.

        Raises:
            StudyError: the entry exists and `overwrite` is False, or a file cannot be written.
        """
        folder = EntryFolder(self.path, name)
        with folder.writing():
            if not overwrite:
                folder.require_free()
            with folder.new_data() as data:
                folder.commit(Entry(name=name, kind="arrays", created=now(), data=data), overwrite=overwrite)
        return name

    def writer(self, name: str, *, resume: bool = False, overwrite: bool = False) -> "StudyWriter":
        """Stream a data set into one entry, a batch at a time; see `StudyWriter`.

        Args:
            name: of the entry.
            resume: go on where an interrupted writer of the same name stopped.
            overwrite: replace the entry of that name.

        Raises:
            StudyError: the entry exists, and neither `resume` nor `overwrite` is set; or both are.
        """
        return StudyWriter(self.path, name, resume=resume, overwrite=overwrite)

    def __getitem__(self, name: str) -> Trace:
        """The trace of an entry, or of a data set; see `trace`."""
        return self.trace(name)

    def parts_of(self, name: str) -> tuple[str, ...]:
        """The entries that a name stands for: that entry, or the shards of a data set, in order.

        Raises:
            StudyError: there is none of that name, a shard lacks, or there are an entry of that name and shards.
        """
        there, alone = self._shards_of(name), name in self
        if alone and not there:
            return (name,)
        if found := shards(name, [*there, *[name] * alone], read_study_file(self.path).planned):
            return found
        return (self.entry(name).name,)

    def _shards_of(self, name: str) -> list[str]:
        """The entries that may be shards of a data set, by the names of their folders: a study may have thousands."""
        stem = folder_name(f"{name} [shard").rpartition(".")[0]
        folders = [path for path in self._folders() if path.name.startswith(stem)]
        return [read_entry(self.path, path.name).name for path in folders if (path / ENTRY).exists()]

    def trace(self, name: str) -> Trace:
        """The trace of an entry, or of a data set of several shards; states are memory-mapped and images read when they
        are taken.

        A stream comes as one trace of all its samples; its views are read into memory, its states are not.
        Use `traces` where even the views are too many.

        Raises:
            StudyError: there is no such entry, it has no trace, its images became grids of several shapes, a shard
                lacks, or a file is damaged.
        """
        found = self.pieces(name)
        if len(found) > 1:
            shapes = dict.fromkeys(f"{each.geometry[0].grid}" for each in found)
            raise StudyError(
                f"The images of the entry {name!r} of {self.path} became grids of several shapes, "
                f"{', '.join(shapes)}, which are not one trace: take pieces({name!r}), or traces({name!r})."
            )
        return found[0]

    def pieces(self, name: str) -> tuple[Trace, ...]:
        """What `trace` gives, in as many traces as it takes: one, or where images become grids of several shapes, one
        for each samples that follow one another with grids of one shape.

        Raises:
            StudyError: there is no such entry, it has no trace, a shard lacks, or a file is damaged.
        """
        parts = []
        for each in self.parts_of(name):
            entry, own_parts = self._parts(each)
            part, samples = own_parts[0]
            _require_described(self.path, entry, read_trace(self.path, part, samples=samples))
            parts += own_parts
        return read_traces(self.path, parts)

    def traces(self, name: str) -> Iterator[Trace]:
        """The batches of a stream, or of all shards of a data set, one trace after another; an ordinary trace is one.

        Raises:
            StudyError: there is no such entry, it has no trace, a shard lacks, or a file is damaged.
        """
        parts = [part for each in self.parts_of(name) for part in self._parts(each)[1]]
        return (read_trace(self.path, part, samples=samples) for part, samples in parts)

    def images(self, name: str, samples: Sequence[int] | None = None) -> Sequence[Image.Image]:
        """The original images of an entry, or of a data set of several shards, each read when it is taken.

        Args:
            name: of the entry or data set.
            samples: numbers of those that are wanted; all when None.

        Raises:
            StudyError: there is no such entry, it has no trace, a shard lacks, or a file is damaged.
            IndexError: there is no such sample.
        """
        traces = list(self.traces(name))
        places = [place for trace in traces for place in trace.geometry]
        hashes = [digest for trace in traces for digest in trace.image_hashes]
        chosen = range(len(hashes)) if samples is None else samples
        return StoredImages(self.path, [(hashes[one], places[one].image_size) for one in chosen])

    def _parts(self, name: str) -> tuple[Entry, list[tuple[Path, int]]]:
        entry, folder = self.entry(name), EntryFolder(self.path, name)
        if not entry.samples:
            raise StudyError(
                f"The entry {name!r} of {self.path} holds arrays and no trace; read them with load_arrays."
            )
        return entry, [(folder.batch(entry, index), count) for index, count in enumerate(entry.samples)]

    def save_arrays(
        self,
        entry: str,
        name: str,
        arrays: Mapping[str, np.ndarray],
        meta: Mapping[str, Any],
        *,
        overwrite: bool = False,
    ) -> None:
        """Store named arrays beside an entry's trace: decodings, maps, masks.

        Args:
            entry: name of an entry of this study.
            name: of the arrays as a whole, e.g. `decoding-ridge`.
            arrays: booleans, integers, floats or complex64, of any shape.
            meta: a JSON object that comes back with them (tuples as lists).
            overwrite: replace arrays of that name.

        Raises:
            StudyError: there is no such entry, the arrays exist and `overwrite` is False, or they cannot be
                written.
        """
        self.entry(entry)
        EntryFolder(self.path, entry).save_arrays(name, arrays, meta, overwrite=overwrite)

    def load_arrays(self, entry: str, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What `save_arrays` stored: the arrays, memory-mapped, and the JSON object.

        Raises:
            StudyError: there are none of that name, or the file is damaged.
        """
        known = self.entry(entry)
        if name not in known.arrays:
            raise StudyError(
                f"The entry {entry!r} of {self.path} has no arrays {name!r}. {nearest(name, known.arrays)}"
            )
        return read_arrays(EntryFolder(self.path, entry).arrays(known, name))

    def batch_arrays(self, entry: str, name: str) -> Iterator[tuple[dict[str, np.ndarray], dict[str, Any]]]:
        """What lies beside the trace of each batch, in order: arrays, memory-mapped, and a JSON object.

        Raises:
            StudyError: there are none of that name, a shard lacks, or a file is damaged.
        """
        files: list[Path] = []
        for part in self.parts_of(entry):
            known, folder = self.entry(part), EntryFolder(self.path, part)
            if name not in (there := (*known.beside, *known.derived)):
                raise StudyError(
                    f"The batches of the entry {part!r} of {self.path} have no arrays {name!r}. {nearest(name, there)}"
                )
            files += [folder.beside(known, index, name) for index in range(len(known.samples))]
        return map(read_arrays, files)

    def files(self) -> Iterator[Path]:
        """The files that the study is made of, and nothing else that lies in its folder: what a copy needs.

        Raises:
            StudyError: one is missing or damaged.
        """
        yield own(self.path, STUDY)
        images: dict[str, None] = {}
        for name, entry in self.entries.items():
            folder = EntryFolder(self.path, name)
            yield own(folder.path, ENTRY)
            yield from (folder.arrays(entry, each) for each in entry.arrays)
            if entry.samples:
                for index, (part, samples) in enumerate(self._parts(name)[1]):
                    yield from trace_files(part)
                    yield from (folder.beside(entry, index, each) for each in (*entry.beside, *entry.derived))
                    images |= dict.fromkeys(read_trace(self.path, part, samples=samples).image_hashes)
        yield from (image_file(self.path, digest) for digest in images)

    def plan(self, samples: Mapping[str, int], *, others: Mapping[str, int] | None = None) -> None:
        """Say which entries are to be there, and how many samples each is to hold; `missing` tells what lacks.

        Args:
            samples: of entries that the caller knows.
            others: of entries whose own writers may know better: what is planned of them already stays.

        Raises:
            StudyError: it cannot be written.
        """
        with lock(self.path, "study", f"the folder {self.path}"):
            known = read_study_file(self.path)
            planned = {**(others or {}), **known.planned, **samples}
            if planned != known.planned:
                write_json(own(self.path, STUDY), asdict(replace(known, planned=planned)))

    @property
    def missing(self) -> dict[str, tuple[int, int]]:
        """What was planned and is not there: of each such entry the samples that it holds, and is to hold."""
        there = {name: entry.n_samples for name, entry in self.entries.items()}
        return {
            name: (there.get(name, 0), wanted)
            for name, wanted in read_study_file(self.path).planned.items()
            if there.get(name, 0) < wanted
        }

    def sweep(self) -> None:
        """Remove what killed processes left: halves of files, and data that no entry names.

        What another process is writing is left alone.
        """
        for path in self._folders():
            if not path.is_symlink():
                EntryFolder.at(self.path, path.name).sweep()
        for name, folder in (("images", IMAGES), ("study", ".")):
            with suppress(StudyError), lock(self.path, name, "it", 0.0):
                sweep_parts(own(self.path, folder, kind="folder"))

    def _take_name(self, trace: Trace, stack: ExitStack) -> EntryFolder:
        """The first free name, with its writer's lock: of two processes that want it, one has it."""
        stem = "-".join([trace.model.name, *(digest[:8] for digest in trace.image_hashes[:1])])
        for number in itertools.count(1):
            folder = EntryFolder(self.path, stem if number == 1 else f"{stem}-{number}")
            if not folder.exists and folder.try_writing(stack) and not folder.exists:
                return folder
        raise AssertionError("itertools.count does not end")


def _require_described(root: Path, entry: Entry, trace: Trace) -> None:
    """The entry says of its trace what the trace says itself."""
    own_words = describe(trace, name=entry.name, kind=entry.kind, data=entry.data)
    kept = ("created", "samples", "arrays", "beside", "derived")
    same = replace(own_words, **{name: getattr(entry, name) for name in kept})
    if odd := [name for name, value in vars(same).items() if getattr(entry, name) != value]:
        raise StudyError(
            f"The entry {entry.name!r} of {root} and its trace differ in {', '.join(odd)}; one of them was changed "
            "or damaged."
        )
