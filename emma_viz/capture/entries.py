"""The entry of a study: its name on disk, and the small JSON file that makes it part of the study.

An entry exists once its `entry.json` does. That file is written last and replaced in one step, and names the
folder that holds the data; what it does not name (the remains of an interrupted write) is never read.
"""

import hashlib
import re
import secrets
import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from emma_viz.capture.files import locked, make_folder, read_json, write_json
from emma_viz.capture.trace import Trace
from emma_viz.errors import StudyError

EntryKind = Literal["trace", "stream", "arrays"]
ENTRY = "entry.json"

_RESERVED = re.compile("con|prn|aux|nul|com[0-9]|lpt[0-9]")  # names of devices on Windows


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a study says of one entry without opening its arrays."""

    name: str
    """The name it was given."""
    kind: EntryKind
    """`trace`: one trace; `stream`: a data set, one batch after another; `arrays`: named arrays alone."""
    created: str
    """UTC time, ISO 8601."""
    data: str
    """Folder of its data, below the entry's own."""
    samples: tuple[int, ...] = ()
    """Samples of each batch; a trace is one batch."""
    model: str | None = None
    """Name of the model."""
    fingerprint: str | None = None
    """Fingerprint of the model."""
    sites: tuple[str, ...] = ()
    """Hook sites that were recorded."""
    layers: tuple[int, ...] = ()
    """Layers that were recorded."""
    token_kind: str | None = None
    """Which tokens: image, text or all."""
    has_states: bool = False
    """Whether the states are there, or only images, answers and provenance."""
    prompt: str | None = None
    """The first sample's prompt."""
    answer: str | None = None
    """The first sample's answer, if any."""
    image_hash: str | None = None
    """Hash of the first sample's image, if any."""
    arrays: Mapping[str, str] = field(default_factory=dict)
    """Names of the stored arrays, and their files in the data folder."""

    @property
    def n_samples(self) -> int:
        """Samples in all batches."""
        return sum(self.samples)

    def part(self, index: int) -> str:
        """The folder of one batch, below the entry's own."""
        return f"{self.data}/{index:06d}"

    def with_batch(self, trace: Trace) -> "Entry":
        """This entry with one more batch."""
        return replace(self, samples=(*self.samples, len(trace)))


def now() -> str:
    """UTC time, ISO 8601, to the microsecond."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def describe(trace: Trace, *, name: str, kind: EntryKind, data: str) -> Entry:
    """The entry of a trace, or of a stream that begins with it (`samples` is still empty)."""
    return Entry(
        name=name,
        kind=kind,
        created=now(),
        data=data,
        model=trace.model.name,
        fingerprint=trace.model.fingerprint,
        sites=trace.sites,
        layers=trace.layers,
        token_kind=trace.token_kind,
        has_states=bool(len(trace.states)),
        prompt=trace.prompts[0],
        answer=trace.answers[0] if trace.answers else None,
        image_hash=trace.image_hashes[0] if trace.image_hashes else None,
    )


class EntryFolder:
    """The folder of one entry, and the only way that its `entry.json` changes: under a lock, in one step.

    Args:
        root: the study's folder.
        name: the entry's name.

    Raises:
        StudyError: the name is empty.
    """

    def __init__(self, root: Path, name: str):
        self.root, self.name = root, name
        self.path = root / "entries" / folder_name(name)

    @property
    def exists(self) -> bool:
        """Whether the study has this entry."""
        return (self.path / ENTRY).is_file()

    def read(self) -> Entry:
        """The entry; its arrays stay closed.

        Raises:
            StudyError: the file is missing, damaged or not of this form.
        """
        return read_entry(self.path)

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
    def new_data(self) -> Generator[str, None, None]:
        """A new folder for data below the entry's own; it is removed again if the block fails."""
        data = f"data-{secrets.token_hex(4)}"
        make_folder(self.path / data)
        try:
            yield data
        except BaseException:
            # An interrupt may come after the entry was committed: then its data belong to the study.
            if not (self.exists and self.read().data == data):
                shutil.rmtree(self.path / data, ignore_errors=True)
                self.remove_if_empty()
            raise

    def commit(self, entry: Entry, *, overwrite: bool) -> None:
        """Make `entry` part of the study, and delete the data of the one it replaces.

        Raises:
            StudyError: the entry exists and `overwrite` is False, or it cannot be written.
        """
        with self.locked("entry"):
            if not overwrite:
                self.require_free()
            old = self.read() if self.exists else None
            write_json(self.path / ENTRY, asdict(entry))
        if old is not None:
            shutil.rmtree(self.path / old.data, ignore_errors=True)

    def update(self, change: Callable[[Entry], Entry], *, data: str) -> None:
        """Change the entry, as it is on disk at this moment, in one step.

        Args:
            change: gives the new entry, or raises.
            data: the folder that the caller has written to.

        Raises:
            StudyError: the entry was replaced meanwhile, or cannot be written.
        """
        with self.locked("entry"):
            entry = self.read()
            if entry.data != data:
                raise StudyError(
                    f"Another process replaced the entry {self.name!r} of {self.root} while it was written "
                    "to."
                )
            write_json(self.path / ENTRY, asdict(change(entry)))

    def remove_if_empty(self) -> None:
        """Take away what reserved the name of an entry that was never written."""
        if not self.exists:
            with suppress(OSError):
                self.path.rmdir()

    def locked(self, what: str, *, seconds: float | None = None) -> AbstractContextManager[None]:
        """One of the entry's locks; see `files.locked`. Lock files stay, or two could hold one name's."""
        path = make_folder(self.root / ".locks") / f"{self.path.name}.{what}"
        return locked(path, f"the entry {self.name!r} of {self.root}", seconds=seconds)


def read_entry(folder: Path) -> Entry:
    """Read the entry of a folder; its arrays stay closed.

    Raises:
        StudyError: the file is missing, damaged or not of this form.
    """
    value: dict[str, Any] = read_json(folder / ENTRY)
    try:
        value |= {name: tuple(value[name]) for name in ("samples", "sites", "layers")}
        return Entry(**value)
    except (KeyError, TypeError) as error:
        raise StudyError(
            f"{folder / ENTRY} does not describe an entry: {error!r}. It was changed or damaged."
        ) from error


def folder_name(name: str) -> str:
    """A folder name for any entry name: readable, safe on every file system, different for different names.

    Raises:
        StudyError: the name is empty.
    """
    if not name.strip():
        raise StudyError("An entry or array needs a name that is not empty.")
    safe = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-")[:48]
    # Names that differ in what was dropped (case, signs) must not share a folder.
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:10]
    return safe if safe == name and not _RESERVED.fullmatch(safe) else f"{safe or 'entry'}.{digest}"
