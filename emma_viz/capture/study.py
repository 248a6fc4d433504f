"""Study: a folder of traces and arrays that every later step opens without the model.

    study.json                          format and schema version
    images/<hash>.png                   the original images
    entries/<entry>/entry.json          what the entry is; written last, so half an entry is none
    entries/<entry>/<data>/000000/      a trace (of a stream: its batches, numbered)
    entries/<entry>/<data>/*.safetensors  arrays stored beside it

Nothing is pickled, all paths are relative to the study, and opening one reads `study.json` alone.
"""

import itertools
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emma_viz.capture.entries import ENTRY, Entry, EntryFolder, describe, folder_name, now, read_entry
from emma_viz.capture.files import (
    explained,
    locked,
    make_folder,
    read_json,
    read_note,
    read_tensor,
    write_json,
    write_tensors,
)
from emma_viz.capture.sites import nearest
from emma_viz.capture.stream import StudyWriter
from emma_viz.capture.trace import Trace
from emma_viz.capture.trace_files import read_trace, read_traces, write_trace
from emma_viz.data.provenance import dump_json
from emma_viz.errors import InputError, StudyError

FORMAT = "emma-viz study"
VERSION = 1
"""Schema version of the folder; raised whenever an older reader could not read the new form."""

STUDY = "study.json"


def open_study(path: str | Path, *, create: bool = False) -> "Study":
    """Open a study folder.

    Args:
        path: the folder.
        create: make an empty study if there is none yet.

    Raises:
        StudyError: there is none, it is of another schema version, or the folder holds something else.
    """
    path = Path(path)
    if create and not (path / STUDY).exists():
        _create(path)
    if not (path / STUDY).is_file():
        raise StudyError(
            f"{path} is no study: it has no {STUDY}. Make one with open_study(path, create=True)."
        )
    return Study(path)


class Study:
    """A study folder; see `open_study`.

    Any number of processes may read it while one or more add to it: an entry appears whole, or not at all.

    Args:
        path: a folder that `open_study(path, create=True)` has made.

    Raises:
        StudyError: it is no study, or of another schema version.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        value = read_json(self.path / STUDY)
        version = value.get("version")
        if value.get("format") != FORMAT or not isinstance(version, int):
            raise StudyError(
                f"{self.path / STUDY} does not say that this is a study ({FORMAT!r}); open another folder."
            )
        if version > VERSION:
            raise StudyError(
                f"{self.path} was written by a newer emma_viz: its schema version is {version}, this one "
                f"reads {VERSION}. "
                "Upgrade emma_viz to open it."
            )
        if version < VERSION:
            raise StudyError(
                f"{self.path} was written by an older emma_viz: its schema version is {version}, this one "
                f"reads {VERSION}. "
                "Record it again, or open it with that older version."
            )

    def __repr__(self) -> str:
        return f"Study({str(self.path)!r})"

    @property
    def entries(self) -> dict[str, Entry]:
        """All entries by name, oldest first; no array file is opened."""
        folders = self.path.glob(f"entries/*/{ENTRY}")
        found = sorted(
            (read_entry(file.parent) for file in folders), key=lambda entry: (entry.created, entry.name)
        )
        return {entry.name: entry for entry in found}

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
        folder = self._take_name(trace) if name is None else EntryFolder(self.path, name)
        if not overwrite:
            folder.require_free()
        with folder.new_data() as data:
            entry = describe(trace, name=folder.name, kind="trace", data=data)
            write_trace(self.path, folder.path / entry.part(0), trace)
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
        with folder.new_data() as data:
            folder.commit(Entry(name=name, kind="arrays", created=now(), data=data), overwrite=overwrite)
        return name

    def writer(self, name: str, *, resume: bool = False, overwrite: bool = False) -> "StudyWriter":
        """Stream a data set into one entry, a batch at a time; see `StudyWriter`.

        Raises:
            StudyError: the entry exists, and neither `resume` nor `overwrite` is set; or both are.
        """
        return StudyWriter(self.path, name, resume=resume, overwrite=overwrite)

    def trace(self, name: str) -> Trace:
        """The trace of an entry; states are memory-mapped and images read when they are taken.

        A stream comes as one trace of all its samples; its views are read into memory, its states are not.
        Use `traces` where even the views are too many.

        Raises:
            StudyError: there is no such entry, it has no trace, or a file is damaged.
        """
        return read_traces(self.path, self._parts(name))

    def traces(self, name: str) -> Iterator[Trace]:
        """The batches of a stream, one trace after another; an ordinary trace is one batch.

        Raises:
            StudyError: there is no such entry, it has no trace, or a file is damaged.
        """
        return (read_trace(self.path, part) for part in self._parts(name))

    def _parts(self, name: str) -> list[Path]:
        entry = self.entry(name)
        if not entry.samples:
            raise StudyError(
                f"The entry {name!r} of {self.path} holds arrays and no trace; read them with load_arrays."
            )
        return [EntryFolder(self.path, name).path / entry.part(index) for index in range(len(entry.samples))]

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
        known, folder = self.entry(entry), EntryFolder(self.path, entry)
        file = f"{folder_name(name)}.{secrets.token_hex(4)}.safetensors"
        path = folder.path / known.data / file

        def add(current: Entry) -> Entry:
            if name in current.arrays and not overwrite:
                raise StudyError(
                    f"The entry {entry!r} already has arrays {name!r}; pass overwrite=True to replace them."
                )
            return replace(current, arrays={**current.arrays, name: file})

        add(known)
        tensors = {key: _to_tensor(key, array) for key, array in arrays.items()}
        write_tensors(path, tensors, _note(name, arrays, meta))
        try:
            folder.update(add, data=known.data)
        except BaseException:
            # An interrupt may come after the entry was committed: then the file belongs to the study.
            if not (folder.exists and file in folder.read().arrays.values()):
                path.unlink(missing_ok=True)
            raise
        if name in known.arrays:
            (path.parent / known.arrays[name]).unlink(missing_ok=True)

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
        path = EntryFolder(self.path, entry).path / known.data / known.arrays[name]
        try:
            note = json.loads(read_note(path)["emma_viz"])
            names, meta = note["names"], note["meta"]
        except (KeyError, ValueError) as error:
            raise StudyError(f"{path} was not written by save_arrays, or was damaged: {error!r}.") from error
        return {key: read_tensor(path, key).numpy() for key in names}, meta

    def _take_name(self, trace: Trace) -> EntryFolder:
        stem = "-".join([trace.model.name, *(digest[:8] for digest in trace.image_hashes[:1])])
        make_folder(self.path / "entries")
        for number in itertools.count(1):
            folder = EntryFolder(self.path, stem if number == 1 else f"{stem}-{number}")
            # Making the folder takes the name: of two processes, one succeeds.
            with explained(folder.path, "created"), suppress(FileExistsError):
                folder.path.mkdir()
                return folder
        raise AssertionError("itertools.count does not end")


def require_room(path: str | Path) -> None:
    """Check that `open_study(path, create=True)` will find or make a study there, without making anything.

    Raises:
        StudyError: the folder holds something else, or it cannot be made or written.
    """
    path = Path(path)
    if (path / STUDY).exists():
        Study(path)
        return
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise StudyError(f"Could not create {path}: {place} is no folder that can be written; give another.")
    if place == path:
        _require_empty(path)


def _require_empty(path: Path) -> None:
    with explained(path, "read"):
        others = sorted(file.name for file in path.iterdir() if not file.name.startswith("."))
    if others and STUDY not in others:
        raise StudyError(
            f"{path} is not empty and no study (it holds {', '.join(others[:3])}); give a new or an empty folder."
        )


def _create(path: Path) -> None:
    make_folder(path)
    _require_empty(path)
    with locked(make_folder(path / ".locks") / "study", f"the folder {path}"):
        if not (path / STUDY).exists():
            write_json(path / STUDY, {"format": FORMAT, "version": VERSION, "created": now()})


def _to_tensor(key: str, array: np.ndarray) -> torch.Tensor:
    if not isinstance(array, np.ndarray):
        raise StudyError(f"Expected arrays of numpy to store, and {key!r} is a {type(array).__name__}.")
    try:
        if array.dtype.kind not in "biuf" and array.dtype != np.complex64:
            raise TypeError(array.dtype)
        # A copy where torch needs one: native byte order, rows in order, writeable.
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        return torch.from_numpy(np.require(native, requirements="CW"))
    except TypeError as error:
        raise StudyError(
            f"Arrays of {array.dtype} cannot be stored, and {key!r} is one; store numbers or booleans."
        ) from error


def _note(name: str, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> dict[str, str]:
    try:
        return {"emma_viz": dump_json({"names": list(arrays), "meta": meta})}
    except InputError as error:
        raise StudyError(f"The description of the arrays {name!r} cannot be stored: {error}") from error
