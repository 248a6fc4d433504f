"""A run's folder while it is made: what is asked, and which parts of each model's answers are there.

Answers come in parts of PART_BATCHES batches, each a file that is written whole or not at all. Parts do not depend on
how many processes share them, so that a run that was killed, or one of several shards, ends in the same bytes.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

from emma_viz.data.provenance import ModelInfo, dump_json
from emma_viz.errors import InputError, RecordError
from emma_viz.files.atomic import PART, write_file
from emma_viz.files.json_door import read_json
from emma_viz.files.locks import locked
from emma_viz.files.schema import Share, shape
from emma_viz.files.versions import require_version
from emma_viz.records.answered import ABOUT, ANSWERED, json_line
from emma_viz.records.json_spans import spans
from emma_viz.records.scorers import Answer
from emma_viz.session.answering import Given

PART_BATCHES = 8
"""Batches that a part has; as much is asked again after a kill."""
ASKED_FILE = "asked.json"
"""The file of what is asked."""
RUN_FORMAT = 1
"""Of that file."""
DISAGREEMENTS = "disagreements"
"""The name of the table of answers that scorers read differently."""
WRITTEN = (ABOUT, ANSWERED, f"{DISAGREEMENTS}.csv", *(f"table.{end}" for end in ("md", "csv", "json", "tex")))
"""Names of all files of a finished run."""
_MADE = (".lock", "images")
"""What a run that was killed at once may have left."""


@dataclass(frozen=True, kw_only=True)
class RunRecipe:
    """All that decides the answers of a run, beside the models."""

    format: int = RUN_FORMAT
    benchmark: str
    """Its name."""
    digest: str
    """Of the records, in their order, and of what is asked of each."""
    records: int
    """How many there are."""
    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int
    batch_size: int
    convert_profile: bool
    models: tuple[str, ...]
    """Names of all that were asked for, in the order in which they first were."""


def digest_of(lines: Sequence[tuple[str, ...]]) -> str:
    """Names a list of texts."""
    found = hashlib.sha256()
    for line in lines:
        found.update(json.dumps(line).encode())
    return found.hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A line of a part."""

    answer: str
    p_yes: Share
    p_no: Share
    image_sha256: str | None


@dataclass(frozen=True, kw_only=True)
class _Notes:
    """What stands beside the record of a model; runs before this version have no marks, and no file without notes."""

    notes: tuple[str, ...] = ()
    marks: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """The folder of one run."""

    path: Path
    recipe: RunRecipe

    @property
    def part_size(self) -> int:
        """Questions in a part; the last may have fewer."""
        return PART_BATCHES * self.recipe.batch_size

    @property
    def parts(self) -> range:
        """Numbers of the parts of each model."""
        return range(-(-self.recipe.records // self.part_size))

    def bounds_of(self, part: int) -> slice:
        """The questions of a part."""
        return slice(part * self.part_size, min((part + 1) * self.part_size, self.recipe.records))

    def pending(self, model: str, shard: tuple[int, int] = (1, 1)) -> tuple[int, ...]:
        """The parts of a model that a shard is to make and that are not there."""
        mine = self.parts[shard[0] - 1 :: shard[1]]
        return tuple(part for part in mine if not self._file(model, part).exists())

    @property
    def finished(self) -> bool:
        """Whether all parts of all models are there."""
        return not any(self.pending(model) for model in self.recipe.models)

    def info(self, model: str) -> ModelInfo | None:
        """The record of a model that has answered; None for one that has not."""
        path = self._of(model) / "model.json"
        return ModelInfo.from_json(read_json(path, error=RecordError)) if path.exists() else None

    def notes(self, model: str) -> tuple[str, ...]:
        """What one must know of the answers of a model that has answered."""
        return self._beside(model).notes

    def marks(self, model: str) -> Mapping[str, str]:
        """What `emma_viz.session.loading.named_marks` said of a model that has answered."""
        return self._beside(model).marks

    def _beside(self, model: str) -> _Notes:
        path = self._of(model) / "notes.json"
        if not path.exists():
            return _Notes()
        return shape(read_json(path, error=RecordError), _Notes, where=str(path), error=RecordError)

    def admit(
        self,
        model: str,
        info: ModelInfo,
        notes: tuple[str, ...] = (),
        marks: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Keep the record of a model that begins to answer, or goes on.

        Args:
            model: its name.
            info: its record.
            notes: what one must know of its answers.
            marks: what `emma_viz.session.loading.named_marks` says of it.

        Raises:
            InputError: other weights, or weights of another type, have answered in its name, or with another image
                encoder or tokenizer.
        """
        before = self.info(model)
        if before is None:
            self._of(model).mkdir(parents=True, exist_ok=True)
            text = dump_json(info.to_json())
            said = dump_json(asdict(_Notes(notes=notes, marks=dict(marks))))
            # The record last: where it is, the notes are.
            write_file(self._of(model) / "notes.json", lambda part: part.write_text(said, encoding="utf-8"))
            write_file(self._of(model) / "model.json", lambda part: part.write_text(text, encoding="utf-8"))
        else:
            self.require_same_model(model, info.fingerprint, info.dtype, marks)

    def require_same_model(
        self,
        model: str,
        fingerprint: str | None,
        dtype: str | None,
        marks: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Refuse another model than the one whose answers are there.

        Args:
            model: the name in which it has answered, if it has.
            fingerprint: of the weights; None where it is not known.
            dtype: their type; None where it is not known.
            marks: of what is beside the weights, as far as it is known.

        Raises:
            InputError: other weights, or weights of another type, have answered in its name, or with another image
                encoder or tokenizer.
        """
        before = self.info(model)
        if before is None:
            return
        mark, kind = fingerprint or before.fingerprint, dtype or before.dtype
        if (before.fingerprint, before.dtype) != (mark, kind):
            raise InputError(
                f"{self.path} has answers of {model} with the fingerprint {before.fingerprint} ({before.dtype}), and "
                f"these weights have {mark} ({kind}); give another --out, or --overwrite."
            )
        there = self.marks(model)
        if differ := [what for what, mark in marks.items() if there.get(what, mark) != mark]:
            raise InputError(
                f"{self.path} has answers of {model} with another {' and another '.join(differ)}. Give the same "
                "--vision and --tokenizer to go on, another --out, or --overwrite."
            )

    def write(self, model: str, part: int, given: Sequence[Given]) -> None:
        """Write one part."""
        rows = [
            _Row(
                answer=each.answer.text,
                p_yes=each.answer.p_yes or 0.0,
                p_no=each.answer.p_no or 0.0,
                image_sha256=each.image_sha256,
            )
            for each in given
        ]
        text = "".join(json_line(asdict(row)) for row in rows)
        write_file(
            self._file(model, part), lambda path: path.write_text(text, encoding="utf-8", newline="\n")
        )

    def read(self, model: str) -> Iterator[Given]:
        """All answers of a model, in the order in which they were asked.

        Raises:
            RecordError: a part is damaged.
        """
        for part in self.parts:
            path, wanted = self._file(model, part), self.bounds_of(part)
            rows = [
                shape(span.value, _Row, where=f"{path}, record {span.index}", error=RecordError)
                for span in spans(path)
            ]
            if len(rows) != wanted.stop - wanted.start:
                raise RecordError(
                    f"{path}: expected {wanted.stop - wanted.start} answers, got {len(rows)}; delete it and run the "
                    "benchmark again."
                )
            for row in rows:
                answer = Answer(text=row.answer, p_yes=row.p_yes, p_no=row.p_no)
                yield Given(answer=answer, image_sha256=row.image_sha256)

    def _of(self, model: str) -> Path:
        return self.path / "parts" / quote(model, safe="")

    def _file(self, model: str, part: int) -> Path:
        return self._of(model) / f"{part:06d}.jsonl"


def require_run_place(path: Path) -> None:
    """Refuse a folder that holds something else than a run of a benchmark.

    Raises:
        InputError: it does, or is no folder.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is no folder; give another --out.")
    if path.exists() and not (path / ASKED_FILE).exists() and any(map(_strange, path.iterdir())):
        raise InputError(f"{path} holds something that is no run of a benchmark; give another --out.")


def _strange(path: Path) -> bool:
    return path.name not in _MADE and not PART.fullmatch(path.name)


def open_run(path: Path, recipe: RunRecipe, *, overwrite: bool) -> RunFolder:
    """Make a run's folder, or go on with the one that is there.

    Models that were asked before stay in it.

    Raises:
        InputError: something else is there, or another run, and `overwrite` is False.
    """
    require_run_place(path)
    path.mkdir(parents=True, exist_ok=True)
    with locked(path / ".lock", str(path), error=InputError):
        if (path / ASKED_FILE).exists() and not overwrite:
            where = str(path / ASKED_FILE)
            value = read_json(path / ASKED_FILE, error=RecordError)
            require_version(value, "format", RUN_FORMAT, where=where, error=RecordError, absent=1)
            there = shape(value, RunRecipe, where=where, error=RecordError)
            recipe = replace(recipe, models=tuple(dict.fromkeys((*there.models, *recipe.models))))
            _require_same(path, there, recipe)
            if recipe != there:
                no_longer_finished(path)
        elif overwrite:
            no_longer_finished(path)
            shutil.rmtree(path / "parts", ignore_errors=True)
        text = dump_json(asdict(recipe))
        write_file(path / ASKED_FILE, lambda part: part.write_text(text, encoding="utf-8"))
    return RunFolder(path=path, recipe=recipe)


def no_longer_finished(path: Path) -> None:
    """Take away what an end wrote: nobody shall read it, or a part of it, as the run that is begun now."""
    for name in WRITTEN:
        (path / name).unlink(missing_ok=True)


def _require_same(path: Path, there: RunRecipe, asked: RunRecipe) -> None:
    differ = [
        f"{name.replace('_', ' ')} ({before!r:.60} there, {wanted!r:.60} asked for)"
        for (name, before), wanted in zip(asdict(there).items(), asdict(asked).values(), strict=True)
        if before != wanted and name != "models"
    ]
    if differ:
        raise InputError(
            f"{path} has a run that asks otherwise: {'; '.join(differ)}. Give the same options to go on with it, "
            "another --out, or --overwrite to begin again."
        )
