"""A LLaVA data set of any size: a table with a few numbers for each record is in memory, the records stay on disk."""

import hashlib
import json
import logging
import os
import stat
from array import array
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import SupportsIndex

import numpy as np

from emma_viz.data.prompts import PromptStyle
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.errors import RecordError, TrainingError
from emma_viz.files.arrays import read_npz
from emma_viz.files.atomic import write_file
from emma_viz.files.json_door import TABLE, open_regular, parse_json
from emma_viz.records.complaints import Complaints, too_many
from emma_viz.records.json_spans import record_value, spans
from emma_viz.records.llava import IGNORE, LlavaRecord, conversation_tokens, parse_record

logger = logging.getLogger(__name__)

_FORMAT = 2
"""Of tables; one of another format is made anew."""
COLUMNS = ("index", "start", "size", "tokens", "answers", "image", "bytes")
"""Number in the file, first byte, bytes, text tokens, tokens with a loss, the image's number (0: none), and the bytes
of its file (0: no image; ABSENT: it is not there)."""
ABSENT = -1
_HEAD = 4096
"""Bytes of two image files that are compared before the whole of them is."""
_SHOWN = 5
"""Left-out records that every start names again."""


@dataclass(frozen=True, kw_only=True)
class TextRules:
    """How conversations become tokens; a table of records belongs to one set of rules."""

    tokenizer: Tokenizer
    style: PromptStyle
    max_length: int
    """Tokens after which a conversation is cut."""

    def tokens(self, record: LlavaRecord) -> tuple[list[int], list[bool]]:
        """Token ids, and which of them belong to an answer (its closing token too).

        Raises:
            RecordError: nothing could be learned from it: an answer is empty, or lies past `max_length`.
        """
        for place, turn in enumerate(record.turns):
            if turn.role == "gpt" and not turn.text.strip():
                raise RecordError(
                    f"record {record.index} (id {record.id!r:.60}), turn {place}: the answer is empty"
                )
        ids, labels = conversation_tokens(record, self.tokenizer, self.style, max_length=self.max_length)
        answers = [label != IGNORE for label in labels]
        if not any(answers[1:]):
            raise RecordError(
                f"record {record.index} (id {record.id!r:.60}): no answer begins within {self.max_length} tokens"
            )
        return ids, answers


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordTable:
    """The usable records of a data set.

    Attributes:
        path: the JSON or JSONL file.
        images: folder that the records' images are relative to.
        columns: one int64 array for each of COLUMNS.
        digest: of the file, the rules, the rows and the sizes of the images: runs on equal digests see the same data.
        broken: what is wrong with the records that were left out.
    """

    path: Path
    images: Path
    columns: dict[str, np.ndarray]
    digest: str
    broken: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.columns["start"])

    @property
    def has_image(self) -> np.ndarray:
        """bool (n,): records with an image."""
        return self.columns["image"] != 0

    @cached_property
    def _file(self) -> int:
        return os.open(self.path, os.O_RDONLY)

    def read(self, number: SupportsIndex) -> LlavaRecord:
        """One record, read from its place in the file.

        Args:
            number: its row in the table.
        """
        start, size, index = (int(self.columns[name][number]) for name in ("start", "size", "index"))
        value = record_value(os.pread(self._file, size, start), index)
        return parse_record(value, index, images=self.images)

    def image_path(self, number: SupportsIndex) -> Path:
        """The image file of a record that has one."""
        return self.images / str(self.read(number).image)

    def first_of_each_image(self) -> np.ndarray:
        """Rows, ascending: for every image the first record that has it."""
        images, rows = np.unique(self.columns["image"], return_index=True)
        return np.sort(rows[images != 0])

    def without_images_of(self, rows: np.ndarray) -> np.ndarray:
        """All rows whose image is none of those of `rows`, nor a copy of one under another name."""
        images, files = self.columns["image"], self.columns["bytes"]
        first = self.first_of_each_image()
        like = first[np.isin(files[first], files[rows])]
        for size in (_HEAD, -1):
            wanted = {_content_of(self.image_path(row), size) for row in rows}
            like = [row for row in like if _content_of(self.image_path(row), size) in wanted]
        return np.flatnonzero(~np.isin(images, images[np.concatenate([rows, like]).astype(int)]))


def open_records(
    path: Path,
    images: Path,
    rules: TextRules,
    cache: Path,
    *,
    broken_limit: int,
    on_record: Callable[[], object] = lambda: None,
    look_again: bool = True,
) -> RecordTable:
    """The table of a data set, made once and kept in `cache`.

    The file is read from beginning to end, each record checked and tokenized, and forgotten again. A table is used
    again while file, folder and rules stay the same. Images that were not there are looked for each time; whether the
    others still are is seen when they are read. Each time it is logged how many records are left out, and why.

    Args:
        path: JSON array or JSONL.
        images: folder of the images.
        rules: how text becomes tokens.
        cache: folder for the table.
        broken_limit: records that may be skipped.
        on_record: called for each record (for a progress bar).
        look_again: False: images that were not there stay left out. Of several processes, one looks.

    Raises:
        TrainingError: too many records are broken, or none is left.
        RecordError: the file cannot be read.
    """
    content = _content_key(path, rules)
    place = hashlib.sha256(content.encode() + os.fsencode(images.resolve())).hexdigest()[:16]
    target = cache / f"records-{place}.npz"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        columns, broken = _scan(path, images, rules, broken_limit, on_record)
        _write(target, columns, broken)
    elif look_again:
        columns, broken = _read(target)
        if back := _back(RecordTable(path=path, images=images, columns=columns, digest="", broken=())):
            columns["bytes"][list(back)] = list(back.values())
            _write(target, columns, broken)
            logger.warning("%s: %d records have their images now, which were missing", path, len(back))
    columns, broken = _read(target)
    return _kept(
        RecordTable(path=path, images=images, columns=columns, digest=content, broken=()),
        broken,
        broken_limit,
    )


def _scan(
    path: Path, images: Path, rules: TextRules, limit: int, on_record: Callable[[], object]
) -> tuple[dict[str, np.ndarray], dict[int, str]]:
    """Columns of all records whose text is whole, ABSENT images among them; what is wrong with the others."""
    columns = {name: array("q") for name in COLUMNS}
    complaints, broken = Complaints(limit, where=str(path)), {}
    for span in spans(path):
        on_record()
        try:
            record = parse_record(span.value, span.index, images=images)
            ids, answers = rules.tokens(record)
        except RecordError as error:
            broken[span.index] = str(error)
            complaints.add(span.index, error)
            continue
        file = 0 if record.image is None else _size(images / record.image)
        if file == ABSENT:
            complaints.add(span.index, _no_image(record, images))
        row = (
            span.index,
            span.start,
            span.size,
            len(ids),
            sum(answers[1:]),
            _image_number(record.image),
            file,
        )
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
    return {name: np.array(column, dtype=np.int64) for name, column in columns.items()}, broken


def _back(table: RecordTable) -> dict[int, int]:
    """Rows whose image was not there and is now, with the size of its file."""
    rows = np.flatnonzero(table.columns["bytes"] == ABSENT)
    sizes = {int(row): _size(table.image_path(row)) for row in rows}
    return {row: size for row, size in sizes.items() if size != ABSENT}


def _kept(table: RecordTable, broken: dict[int, str], limit: int) -> RecordTable:
    """The table without rows whose image is absent.

    Raises:
        TrainingError: too much is left out, or nothing is left.
    """
    absent = table.columns["bytes"] == ABSENT
    said = dict(broken)
    for row in np.flatnonzero(absent):
        record = table.read(row)
        said[record.index] = _no_image(record, table.images)
    messages = tuple(said[index] for index in sorted(said))
    if len(messages) > limit:
        raise too_many(messages, limit, where=str(table.path))
    if absent.all():
        raise TrainingError(f"{table.path} holds no record that can be trained on.")
    columns = {name: column[~absent] for name, column in table.columns.items()}
    if messages:
        rest = f"; and {len(messages) - _SHOWN} more" if len(messages) > _SHOWN else ""
        logger.warning(
            "%s: %d of %d records are left out: %s%s",
            table.path,
            len(messages),
            len(messages) + len(columns["start"]),
            "; ".join(messages[:_SHOWN]),
            rest,
        )
    digest = hashlib.sha256(table.digest.encode())
    for name in ("index", "bytes"):
        digest.update(columns[name].tobytes())
    return replace(table, columns=columns, digest=digest.hexdigest()[:16], broken=messages)


def _no_image(record: LlavaRecord, images: Path) -> str:
    return (
        f"record {record.index} (id {record.id!r:.60}): there is no image {record.image!r:.200} in {images}"
    )


def _size(path: Path) -> int:
    """Bytes of a regular file; ABSENT when there is none."""
    try:
        about = path.stat()
    except (OSError, ValueError):
        return ABSENT
    return about.st_size if stat.S_ISREG(about.st_mode) else ABSENT


def _content_of(path: Path, size: int) -> str:
    """Tells the first `size` bytes of a file from others' (-1: all of them); a file that cannot be read from all."""
    try:
        with open_regular(path, error=RecordError) as file:
            return hashlib.sha256(file.read(size)).hexdigest()
    except (OSError, RecordError):
        return str(path)


def _image_number(image: str | None) -> int:
    """A number for an image's path, 0 for none; 63 bits, so that no two of millions are the same."""
    if image is None:
        return 0
    return 1 + int.from_bytes(hashlib.sha256(os.fsencode(image)).digest()[:8], "big") // 4


def _content_key(path: Path, rules: TextRules) -> str:
    """Names what a table holds, wherever the images are."""
    try:
        with open_regular(path, error=RecordError) as file:
            digest = hashlib.file_digest(file, "sha256")
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror or error}") from error
    digest.update(json.dumps([_FORMAT, rules.tokenizer.fingerprint, rules.style, rules.max_length]).encode())
    return digest.hexdigest()[:16]


def _read(target: Path) -> tuple[dict[str, np.ndarray], dict[int, str]]:
    """What `_write` wrote.

    Raises:
        RecordError: the file is damaged.
    """
    mend = "Delete it, and the records are read anew."
    found = read_npz(target, error=RecordError, mend=mend)
    columns = {name: found.get(name, np.zeros(0)) for name in COLUMNS}
    said = parse_json(str(found.get("broken", "null")), where=str(target), error=RecordError, budget=TABLE)
    rows = columns["start"].shape
    whole = all(each.dtype == np.int64 and each.shape == rows and each.ndim == 1 for each in columns.values())
    if not whole or not isinstance(said, dict) or not all(key.isdecimal() for key in said):
        raise RecordError(f"{target} holds no table of records. {mend}")
    return columns, {int(key): str(text) for key, text in said.items()}


def _write(target: Path, columns: dict[str, np.ndarray], broken: dict[int, str]) -> None:
    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.savez(file, broken=np.array(json.dumps(broken)), **columns)  # ty: ignore[invalid-argument-type]

    write_file(target, write)
