"""The entry of a study: its name on disk, and the small JSON file that makes it part of the study.

An entry exists once its `entry.json` does. That file is written last and replaced in one step, and names the
folder that holds the data; what it does not name (the remains of an interrupted write) is never read.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from emma_viz.capture.trace import Trace
from emma_viz.errors import InputError, StudyError
from emma_viz.files.json_door import CONFIG, read_json
from emma_viz.files.schema import Size, shape
from emma_viz.study.files import own

EntryKind = Literal["trace", "stream", "arrays"]
ENTRY = "entry.json"

DATA = re.compile("data-[0-9a-f]{8}")
"""Names of folders that a study makes for data."""
BATCH_NAME = re.compile("[0-9]{6,9}")
"""Names of folders that a study makes for batches."""
ARRAYS = re.compile(r"[a-z0-9_-]+(\.[0-9a-f]{10})?\.[0-9a-f]{8}\.safetensors")
"""Names of files that a study makes for arrays."""

_RESERVED = re.compile("con|prn|aux|nul|com[0-9]|lpt[0-9]")  # names of devices on Windows


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a study says of one entry without opening its arrays.

    Raises:
        InputError: a name is none that a study makes, or the batches do not fit the kind.
    """

    name: str
    """The name it was given."""
    kind: EntryKind
    """`trace`: one trace; `stream`: a data set, one batch after another; `arrays`: named arrays alone."""
    created: Annotated[str, msgspec.Meta(pattern=r"^[0-9T:+.Z-]{1,40}\Z")]
    """UTC time, ISO 8601."""
    data: str
    """Folder of its data, below the entry's own."""
    samples: tuple[Size, ...] = ()
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
    beside: tuple[str, ...] = ()
    """Names of arrays that each batch holds beside its trace."""
    derived: tuple[str, ...] = ()
    """Names of arrays that were made of each batch since, and lie beside it."""

    def __post_init__(self):
        if not DATA.fullmatch(self.data):
            raise InputError(f"{self.data[:100]!r} is no folder of data that a study makes")
        for name, file in self.arrays.items():
            if not (file.startswith(f"{folder_name(name)}.") and ARRAYS.fullmatch(file)):
                raise InputError(f"{file[:100]!r} is no file that a study makes for arrays {name[:100]!r}")

    @property
    def n_samples(self) -> int:
        """Samples in all batches."""
        return sum(self.samples)

    def to_json(self) -> dict[str, Any]:
        """What `entry.json` holds; without `beside` and `derived` where there is nothing, so that older versions read
        it."""
        newer = ("beside", "derived")
        return {name: each for name, each in asdict(self).items() if each or name not in newer}

    def with_batch(self, trace: Trace) -> "Entry":
        """This entry with one more batch, of which nothing is derived yet."""
        return replace(self, samples=(*self.samples, len(trace)), derived=())


def now() -> str:
    """UTC time, ISO 8601, to the microsecond."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def describe(trace: Trace, *, name: str, kind: EntryKind, data: str, beside: tuple[str, ...] = ()) -> Entry:
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
        beside=beside,
    )


def read_entry(root: Path, folder: str) -> Entry:
    """Read the entry of one of a study's folders; its arrays stay closed.

    Raises:
        StudyError: the file is missing, damaged, not of this form, or names what no study makes.
    """
    path = own(root, "entries", folder, ENTRY)
    entry = shape(read_json(path, error=StudyError, budget=CONFIG), Entry, where=str(path), error=StudyError)
    batches = {"trace": len(entry.samples) == 1, "stream": bool(entry.samples), "arrays": not entry.samples}
    if folder_name(entry.name) != folder or not batches[entry.kind]:
        raise StudyError(
            f"{path} says that it is the entry {entry.name[:100]!r}, a {entry.kind} of {len(entry.samples)} batches, "
            "and it cannot be that. It was changed or damaged."
        )
    return entry


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
