"""Cases that go from one casebook to another: a folder, or the same as a zip file.

`about.json` says what it is, `cases.jsonl` has a line a case, `pictures/` the images by their hash. The same cases make
the same bytes.
"""

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Annotated, Any, Literal, TypeVar

import msgspec

from emma_viz.cases.case import CaseLabel, CaseRecord, require_drawable, storable
from emma_viz.cases.casebook import Casebook
from emma_viz.cases.history import CaseEvent
from emma_viz.cases.pictures import LARGEST_PICTURE, MEDIA_TYPES, case_picture
from emma_viz.cases.stored import IDS_AT_ONCE, StoredCase, in_parts
from emma_viz.data.provenance import dump_json
from emma_viz.errors import CasebookError, EmmaVizError, ImageError, InputError
from emma_viz.files.atomic import write_file
from emma_viz.files.inside import require_inside
from emma_viz.files.json_door import Budget, open_regular, parse_json
from emma_viz.files.room import require_writable
from emma_viz.files.schema import shape
from emma_viz.files.versions import require_version
from emma_viz.files.zips import ZIP_DAMAGE
from emma_viz.progress import Progress

EXPORT_FORMAT = 3
"""Of both files. Cases of version 1 had no cluster; answers of version 2 do not say what was beside the weights."""
EXPORT_MARK = "about.json"
"""The file that says that a folder is an export."""
_CASES, _PICTURES = "cases.jsonl", "pictures"
_Form = TypeVar("_Form")
_ENDINGS = dict(zip(MEDIA_TYPES.values(), (".png", ".jpg"), strict=True))
_LINE = Budget(size=16 * 2**20, nodes=400_000)
"""One case with its evidence."""
_AT_ONCE = 50
"""Cases that are read at once to be written: documents of evidence are long."""
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The time of every file in a zip, so that the same cases make the same bytes."""
_AHEAD = timedelta(days=1)
"""Clocks may differ so much: nothing could be written after an entry of a time that never comes."""
_LARGEST_IN_ALL = 64 * 2**30
"""Bytes that are taken out of one zip file."""
MOST_CASES = 1_000_000
"""Of one export."""
MOST_LEFT_OUT = 1000
"""Lines, or images and evidence, that an import leaves out; a small zip file can hold millions that are none."""


@dataclass(frozen=True, kw_only=True)
class ExportedEvidence:
    """What was measured of one model."""

    recipe: Annotated[str, msgspec.Meta(max_length=200)]
    """Digest of all that the numbers depend on."""
    document: dict[str, Any]
    """The evidence."""

    def __post_init__(self):
        storable(self.recipe, what="a recipe of evidence")


@dataclass(frozen=True, kw_only=True)
class ExportedCase:
    """One line of `cases.jsonl`."""

    format: int = EXPORT_FORMAT
    record: CaseRecord
    history: tuple[CaseEvent, ...] = ()
    evidence: dict[CaseLabel, ExportedEvidence] = field(default_factory=dict)
    """Model → what was measured."""
    picture: str = ""
    """The name of the image's file in `pictures/`; "" where the casebook had none."""

    def __post_init__(self):
        for model in self.evidence:
            storable(model, what="a model's name")


@dataclass(frozen=True, kw_only=True)
class ExportAbout:
    """What stands in `about.json`."""

    format: int = EXPORT_FORMAT
    kind: Literal["emma_viz casebook"] = "emma_viz casebook"
    cases: Annotated[int, msgspec.Meta(ge=0, le=MOST_CASES)]
    """Lines of `cases.jsonl`."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What became of an export."""

    cases: int
    """Questions that were not there before."""
    answers: int
    """Answers that were not there before."""
    events: int
    """Entries of histories that were not there before."""
    complaints: tuple[str, ...]
    """What was left out, and why."""


def bundled_cases() -> Path:
    """The export that ships with the package: cases of the pocket pair (docs/casebook.md)."""
    return Path(__file__).with_name("bundled") / "pocket.zip"


def export_cases(
    casebook: Casebook,
    ids: Sequence[str],
    target: Path,
    *,
    progress: Progress | None = None,
) -> int:
    """Write cases, with their images, histories and evidence.

    Args:
        casebook: where they are.
        ids: of the cases, in the order in which they are written.
        target: a file that ends in .zip, or a folder that is not there yet.
        progress: told of the cases written.

    Returns:
        how many there were.

    Raises:
        InputError: there is no case, there are more than `MOST_CASES`, or the target cannot be written.
    """
    if not ids:
        raise InputError("expected at least one case to export, got none.")
    if len(ids) > MOST_CASES:
        raise InputError(
            f"expected at most {MOST_CASES} cases, got {len(ids)}; choose them, as by benchmark."
        )
    is_zip = target.suffix.lower() == ".zip"
    require_writable(target, folder=not is_zip)
    if not is_zip and target.exists():
        raise InputError(f"{target}: expected a folder that is not there yet, or a name that ends in .zip.")
    with tempfile.TemporaryDirectory(prefix=".", suffix=".part", dir=target.absolute().parent) as made:
        folder = Path(made) / "export"
        (folder / _PICTURES).mkdir(parents=True)
        count = _write(casebook, ids, folder, progress)
        if is_zip:
            write_file(target, lambda part: _zip(folder, part))
        else:
            os.rename(folder, target)
    return count


def import_cases(casebook: Casebook, source: Path, *, progress: Progress | None = None) -> Imported:
    """Add the cases of an export; what is there already stays, and histories are joined.

    An answer of a model that answered the case here is left out, and so is evidence of a model that was measured here,
    or that comes without its numbers or cannot be shown: it is still to be measured here.

    Args:
        casebook: where they are added.
        source: a folder or zip file that `export_cases` wrote, or somebody else made: nothing in it is trusted.
        progress: told of the cases read.

    Raises:
        CasebookError: it is no export, or of another format, has more lines than it says, or more than `MOST_LEFT_OUT`
            of them are none; what was added before stays.
        InputError: see `Casebook.add`.
    """
    refused, complaints = list[str](), list[str]()
    counts = dict.fromkeys(("cases", "answers", "events"), 0)
    with _opened(source) as parts:
        where = f"{source}/{EXPORT_MARK}"
        value = parse_json(parts.read(EXPORT_MARK, 1 << 16), where=where, error=CasebookError)
        about = _known(value, ExportAbout, where)
        done = 0
        for cases in _in_groups(_cases(parts, source, about.cases, refused)):
            for case in cases:
                _keep_picture(casebook, parts, case, complaints)
            added = casebook.add([_without_documents(case) for case in cases], replace=False)
            counts["cases"] += added.cases
            counts["answers"] += added.answers
            for case in cases:
                counts["events"] += casebook.join_history(case.record.identity, case.history)
                _keep_evidence(casebook, case, complaints)
            done += len(cases)
            if progress is not None:
                progress(done, about.cases, "cases")
    if done + len(refused) < about.cases:
        complaints.append(f"{source}: expected {about.cases} cases, found {done}: the file was cut off.")
    return Imported(complaints=(*refused, *complaints), **counts)


# ── writing ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _write(casebook: Casebook, ids: Sequence[str], folder: Path, progress: Progress | None) -> int:
    count = 0
    with (folder / _CASES).open("w", encoding="utf-8", newline="\n") as file:
        for part in in_parts(ids, size=_AT_ONCE):
            for case, evidence in casebook.with_evidence(part):
                line = _exported(casebook, case, evidence, folder / _PICTURES)
                file.write(json.dumps(asdict(line), allow_nan=False, separators=(",", ":")) + "\n")
                count += 1
                if progress is not None:
                    progress(count, len(ids), "cases")
    about = dump_json(asdict(ExportAbout(cases=count)))
    (folder / EXPORT_MARK).write_text(about, encoding="utf-8", newline="\n")
    return count


def _exported(
    casebook: Casebook, case: StoredCase, evidence: Mapping[str, tuple[str, Any]], pictures: Path
) -> ExportedCase:
    name = ""
    if case.record.image and (picture := casebook.picture(case.record.image)) is not None:
        name = picture.hash + _ENDINGS[picture.media_type]
        if not (pictures / name).exists():
            (pictures / name).write_bytes(picture.content)
    documents = {
        model: ExportedEvidence(recipe=recipe, document=document)
        for model, (recipe, document) in sorted(evidence.items())
    }
    return ExportedCase(record=case.record, history=case.history, evidence=documents, picture=name)


def _zip(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w") as made:
        for path in sorted(each for each in folder.rglob("*") if each.is_file()):
            about = zipfile.ZipInfo(path.relative_to(folder).as_posix(), date_time=_LONG_AGO)
            about.external_attr = 0o644 << 16
            pressed = path.suffix in (".json", ".jsonl")  # images are pressed already
            about.compress_type = zipfile.ZIP_DEFLATED if pressed else zipfile.ZIP_STORED
            with made.open(about, "w", force_zip64=True) as file, path.open("rb") as content:
                shutil.copyfileobj(content, file)


# ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Parts:
    """The files of an export by their names; no other name is ever opened.

    Args:
        open_part: opens one, or raises CasebookError.
    """

    def __init__(self, open_part: Callable[[str], AbstractContextManager[IO[bytes]]]):
        self.open = open_part

    def read(self, name: str, limit: int) -> bytes:
        """The content of one of at most `limit` bytes."""
        with self.open(name) as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise CasebookError(f"{name}: expected at most {limit / 2**20:.3g} MB.")
        return content


@contextmanager
def _opened(source: Path) -> Generator[_Parts]:
    if source.is_dir():
        yield _Parts(lambda name: _file_in(source, name))
        return
    try:
        with open_regular(source, error=CasebookError) as file, zipfile.ZipFile(file) as opened:
            names = {about.filename: about for about in opened.infolist()}
            if len(names) < len(opened.infolist()):
                raise CasebookError(f"{source}: a name stands in it twice.")
            if sum(about.file_size for about in names.values()) > _LARGEST_IN_ALL:
                raise CasebookError(
                    f"{source}: expected at most {_LARGEST_IN_ALL / 2**30:g} GB when unpacked."
                )
            yield _Parts(lambda name: _file_of_zip(opened, source, name))
    except ZIP_DAMAGE as failure:
        raise CasebookError(
            f"{source}: expected an exported casebook, a folder or a zip file; it is damaged or something else "
            f"({failure})."
        ) from failure


def _file_in(folder: Path, name: str) -> IO[bytes]:
    path = folder / name
    require_inside(path, folder, error=CasebookError, links=False)
    return open_regular(path, error=CasebookError)


@contextmanager
def _file_of_zip(opened: zipfile.ZipFile, source: Path, name: str) -> Generator[IO[bytes]]:
    try:
        file = opened.open(name)
    except KeyError:
        raise CasebookError(f"{source}: there is no {name} in it; it is no exported casebook.") from None
    except RuntimeError as failure:  # it is encrypted
        raise CasebookError(f"{source}: {name} cannot be read ({failure}).") from failure
    with file:
        yield file


def _known(value: Any, kind: type[_Form], where: str) -> _Form:
    require_version(value, "format", EXPORT_FORMAT, where=where, error=CasebookError, absent=1)
    return shape(value, kind, where=where, error=CasebookError)


def _leave_out(complaints: list[str], said: str) -> None:
    """Name what is left out.

    Raises:
        CasebookError: it is one too many.
    """
    complaints.append(said)
    if len(complaints) > MOST_LEFT_OUT:
        raise CasebookError(
            f"expected at most {MOST_LEFT_OUT} things to leave out, got more; export the cases anew. The last: {said}"
        )


def _cases(parts: _Parts, source: Path, count: int, complaints: list[str]) -> Iterator[ExportedCase]:
    latest = (datetime.now(UTC) + _AHEAD).replace(tzinfo=None).isoformat()
    with parts.open(_CASES) as file:
        number = 0
        while line := file.readline(_LINE.size + 1):
            number += 1
            if number > count:
                raise CasebookError(
                    f"{source}/{_CASES}: expected {count} lines, as {EXPORT_MARK} says, got more; export the cases "
                    "anew."
                )
            where = f"{source}/{_CASES}, line {number}"
            if len(line) > _LINE.size:
                raise CasebookError(f"{where}: expected at most {_LINE.size // 2**20} MB a case.")
            try:
                value = parse_json(line, where=where, error=CasebookError, budget=_LINE)
                case = _known(value, ExportedCase, where)
                if late := [each.at for each in case.history if each.at > latest]:
                    raise CasebookError(f"{where}: its history goes to {late[0]}, which is still to come.")
                yield case
            except CasebookError as error:
                _leave_out(complaints, str(error))


def _in_groups(cases: Iterable[ExportedCase]) -> Iterator[list[ExportedCase]]:
    group: dict[str, ExportedCase] = {}
    for case in cases:
        if case.record.identity in group or len(group) == IDS_AT_ONCE:
            yield list(group.values())
            group = {}
        group[case.record.identity] = case
    if group:
        yield list(group.values())


def _keep_picture(casebook: Casebook, parts: _Parts, case: ExportedCase, complaints: list[str]) -> None:
    image, name = case.record.image, case.picture
    if not name or not image or casebook.has_picture(image):
        return
    try:
        if name not in {image + ending for ending in _ENDINGS.values()}:
            raise ImageError(f"expected the file of {image} to be named by it, got {name!r:.100}.")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(parts.read(f"{_PICTURES}/{name}", LARGEST_PICTURE))
            picture = case_picture(path)
        if picture.hash != image:
            raise ImageError(f"{name}: its pixels are not those that its name says.")
        casebook.keep_picture(picture)
    except EmmaVizError as error:
        _leave_out(complaints, f"the image of {case.record.prompt[:60]!r}: {error}")


def _without_documents(case: ExportedCase) -> CaseRecord:
    """The record without the numbers that belong to a document: they are kept together with it."""
    numbers = tuple(each for each in case.record.evidence if each.model not in case.evidence)
    return replace(case.record, evidence=numbers)


def _keep_evidence(casebook: Casebook, case: ExportedCase, complaints: list[str]) -> None:
    """Keep what was measured of models of which nothing was measured here."""
    if not case.evidence:
        return
    id = case.record.identity
    known = {*casebook.evidence(id), *(each.model for each in casebook.case(id).record.evidence)}
    for model, evidence in case.evidence.items():
        if model in known:
            continue
        measured = [each for each in case.record.evidence if each.model == model]
        where = f"the evidence of {model!r:.100} at {case.record.prompt[:60]!r}"
        if not measured:  # with the document alone it would count as measured, and never be
            _leave_out(
                complaints,
                f"{where}: expected numbers beside its document, got none; measure it here (emma-viz cases evidence).",
            )
            continue
        try:
            require_drawable(evidence.document, where=where)
        except InputError as error:
            _leave_out(complaints, f"{error} Measure it here (emma-viz cases evidence).")
            continue
        casebook.keep_evidence(
            id, model, recipe=evidence.recipe, document=evidence.document, measured=measured
        )
