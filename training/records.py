"""A LLaVA data set of any size: a table with a few numbers for each record is in memory, the records stay on disk."""

import hashlib
import json
import logging
import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from emma_viz.data.json_spans import parse_json, spans
from emma_viz.data.llava import IGNORE, LlavaRecord, conversation_tokens, parse_record
from emma_viz.data.prompts import PromptStyle
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.errors import RecordError, TrainingError
from emma_viz.files.atomic import write_file
from training.complaints import Complaints

logger = logging.getLogger(__name__)

COLUMNS = ("index", "start", "size", "tokens", "answers", "image")
"""Number in the file, first byte, bytes, text tokens, tokens with a loss, and the image's number (0: none)."""


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
                    f"record {record.index} (id {record.id!r}), turn {place}: the answer is empty"
                )
        ids, labels = conversation_tokens(record, self.tokenizer, self.style, max_length=self.max_length)
        answers = [label != IGNORE for label in labels]
        if not any(answers[1:]):
            raise RecordError(
                f"record {record.index} (id {record.id!r}): no answer begins within {self.max_length} tokens"
            )
        return ids, answers


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordTable:
    """The usable records of a data set.

    Attributes:
        path: the JSON or JSONL file.
        images: folder that the records' images are relative to.
        columns: one int64 array for each of COLUMNS.
        digest: of the file, the rules and what was skipped: runs on equal digests see the same data.
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

    def read(self, number: int) -> LlavaRecord:
        """One record, read from its place in the file.

        Args:
            number: its row in the table.
        """
        start, size, index = (int(self.columns[name][number]) for name in ("start", "size", "index"))
        return parse_record(parse_json(os.pread(self._file, size, start), index), index)

    def first_of_each_image(self) -> np.ndarray:
        """Rows, ascending: for every image the first record that has it."""
        images, rows = np.unique(self.columns["image"], return_index=True)
        return np.sort(rows[images != 0])

    def without_images_of(self, rows: np.ndarray) -> np.ndarray:
        """All rows whose image is none of those of `rows`."""
        return np.flatnonzero(~np.isin(self.columns["image"], self.columns["image"][rows]))


def open_records(
    path: Path,
    images: Path,
    rules: TextRules,
    cache: Path,
    *,
    broken_limit: int,
    on_record: Callable[[], object] = lambda: None,
) -> RecordTable:
    """The table of a data set, made once and kept in `cache`.

    The file is read from beginning to end, each record checked and tokenized, and forgotten again. A table is used
    again while file, folder and rules stay the same; whether images are still there is not looked at again then.

    Args:
        path: JSON array or JSONL.
        images: folder of the images.
        rules: how text becomes tokens.
        cache: folder for the table.
        broken_limit: records that may be skipped.
        on_record: called for each record (for a progress bar).

    Raises:
        TrainingError: too many records are broken, or none is left.
        RecordError: the file cannot be read.
    """
    name = _key(path, images, rules)
    target = cache / f"records-{name}.npz"
    if not target.exists():
        scanned, complaints = _scan(path, images, rules, broken_limit, on_record)
        messages = json.dumps(complaints.messages)
        cache.mkdir(parents=True, exist_ok=True)
        write_file(target, lambda part: _write(part, scanned, messages))
    with np.load(target) as file:
        columns = {column: file[column] for column in COLUMNS}
        broken = tuple(json.loads(str(file["broken"])))
    if len(broken) > broken_limit:
        complaints = Complaints(broken_limit, where=str(path))
        for index, message in enumerate(broken):
            complaints.add(index, message)
    if not len(columns["start"]):
        raise TrainingError(f"{path} holds no record that can be trained on.")
    digest = hashlib.sha256(f"{name}:{len(columns['start'])}:{len(broken)}".encode()).hexdigest()[:16]
    return RecordTable(path=path, images=images, columns=columns, digest=digest, broken=broken)


def _scan(
    path: Path, images: Path, rules: TextRules, limit: int, on_record: Callable[[], object]
) -> tuple[dict[str, array], Complaints]:
    columns = {name: array("q") for name in COLUMNS}
    complaints = Complaints(limit, where=str(path))
    for span in spans(path):
        on_record()
        try:
            record = parse_record(span.value, span.index)
            ids, answers = rules.tokens(record)
            if record.image is not None and not (images / record.image).is_file():
                raise RecordError(
                    f"record {record.index} (id {record.id!r}): there is no image {images / record.image}"
                )
        except RecordError as error:
            complaints.add(span.index, error)
            continue
        row = (
            span.index,
            span.start,
            len(span.text),
            len(ids),
            sum(answers[1:]),
            _image_number(record.image),
        )
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
    if complaints:
        logger.warning("%s: %d records are left out", path, len(complaints))
    return columns, complaints


def _image_number(image: str | None) -> int:
    """A number for an image's path, 0 for none; 63 bits, so that no two of millions are the same."""
    if image is None:
        return 0
    return 1 + int.from_bytes(hashlib.sha256(image.encode()).digest()[:8], "big") // 4


def _key(path: Path, images: Path, rules: TextRules) -> str:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror or error}") from error
    parts = (str(images.resolve()), rules.tokenizer.fingerprint, rules.style, rules.max_length)
    digest.update(json.dumps(parts).encode())
    return digest.hexdigest()[:16]


def _write(part: Path, columns: dict[str, array], broken: str) -> None:
    values: dict[str, Any] = {name: np.array(column, dtype=np.int64) for name, column in columns.items()}
    with part.open("wb") as file:
        np.savez(file, broken=np.array(broken), **values)
