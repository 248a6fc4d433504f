"""A benchmark's files, read into one set of records: keys made sure of, duplicates and contradictions flagged."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from emma_viz.errors import InputError, RecordError
from emma_viz.files.inside import require_inside
from emma_viz.records.benchmarks.kinds import Benchmark, Read, benchmark
from emma_viz.records.benchmarks.record import CONTRADICTORY, DUPLICATE, BenchmarkRecord, Key, RecordSet
from emma_viz.records.complaints import SHOWN


def read_benchmark(
    name: str, paths: Sequence[Path] = (), *, on_error: Callable[[RecordError], None] | None = None
) -> RecordSet:
    """Read a benchmark's files.

    Args:
        name: of the benchmark.
        paths: its files, or folders of them; none for one that is bundled.
        on_error: called with each row that is left out, its file and line named; None only keeps it in `complaints`.

    Raises:
        InputError: there is no such benchmark, no file, or no record in them.
        RecordError: a file cannot be read.
    """
    kind = benchmark(name)
    return _record_set(name, _files(kind, name, paths), kind.read, on_error=on_error)


def answers_beside(name: str, paths: Sequence[Path] = ()) -> Callable[[Path], RecordSet]:
    """What reads files of a benchmark that hold answers, each into a set of its own.

    Args:
        name: of the benchmark.
        paths: its own files, or folders of them, read here and once; none where files of answers hold the truth too.

    Returns:
        A file of answers → its records, with what is wrong with the benchmark's own files among its complaints. It
        raises as `read_benchmark`.

    Raises:
        InputError: there is no such benchmark or no file, or files are given and its files of answers hold the truth.
        RecordError: a file cannot be read.
    """
    kind = benchmark(name)
    if not paths:
        return lambda path: _record_set(name, _files(kind, name, [path]), kind.read)
    if kind.beside is None:
        raise InputError("these files hold the truth beside the answers; leave --records out.")
    own, complaints = _files(kind, name, paths), _Complaints()
    read = kind.beside(own, complaints.take)
    found = tuple(complaints.said)
    return lambda path: _record_set(name, _files(kind, name, [path]), read, before=found, beside=own)


class _Complaints:
    """What is wrong with rows, kept and passed on."""

    def __init__(self, on_error: Callable[[RecordError], None] | None = None):
        self.said: list[str] = []
        self._on_error = on_error

    def take(self, error: RecordError) -> None:
        self.said.append(str(error))
        if self._on_error is not None:
            self._on_error(error)


def _record_set(
    name: str,
    files: Sequence[Path],
    read: Read,
    *,
    before: Sequence[str] = (),
    beside: Sequence[Path] = (),
    on_error: Callable[[RecordError], None] | None = None,
) -> RecordSet:
    """The records of files, after what was complained about `beside`."""
    complaints = _Complaints(on_error)
    records: dict[Key, BenchmarkRecord] = {}
    said: dict[Key, str] = {}
    for record, answer in read(files, complaints.take):
        if (known := records.get(record.key)) is not None:
            complaints.take(
                RecordError(
                    f"{record.where}: the id {record.id!r:.60} "
                    f"stands in {record.split or name} already, at {known.where}"
                )
            )
            continue
        records[record.key] = record
        if answer is not None:
            said[record.key] = answer
    found = (*before, *complaints.said)
    if not records:
        why = "\n".join(f"    {each}" for each in found[:SHOWN])
        places = ", ".join(map(str, (*beside, *files)))
        raise InputError(f"{places}: no record of {name} was found.\n{why}".rstrip())
    return RecordSet(
        benchmark=name, records=tuple(_flagged(list(records.values()))), said=said, complaints=found
    )


def _files(kind: Benchmark, name: str, paths: Sequence[Path]) -> list[Path]:
    if not paths and not kind.bundled:
        raise InputError(f"{name} needs its files (--records): {kind.source}")
    files = []
    for path in paths:
        if path.is_dir():
            found = sorted(
                each for each in path.rglob("*") if each.suffix.lower() in kind.endings and each.is_file()
            )
            if not found:
                raise InputError(
                    f"{path} holds no file of {name}: expected some that end in {', '.join(kind.endings)}."
                )
            files += found
        else:
            files.append(path)
    return files


def _flagged(records: list[BenchmarkRecord]) -> list[BenchmarkRecord]:
    truths: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
    for record in records:
        truths[record.same].add(record.truth)
    seen: set[tuple[Any, ...]] = set()
    found = []
    for record in records:
        flags = list(record.flags)
        if (record.split, record.same) in seen:
            flags.append(DUPLICATE)
        if len(truths[record.same]) > 1:
            flags.append(CONTRADICTORY)
        seen.add((record.split, record.same))
        found.append(record if len(flags) == len(record.flags) else replace(record, flags=tuple(flags)))
    return found


def picture(kind: Benchmark, record: BenchmarkRecord, images: Path | None) -> Any:
    """The image of a record: a path, an array that is drawn, or None for a question about none.

    Args:
        kind: the benchmark.
        record: the record.
        images: the image folder.

    Raises:
        RecordError: there is no such image, no folder, or it leads out of the folder.
    """
    if record.image is None:
        return None
    if kind.draw is not None:
        return kind.draw(record)
    if images is None:
        raise RecordError(f"record {record.id!r}: expected the folder of its images (--images), got none")
    for place in kind.places:
        path = images / place.replace("{split}", record.split).replace("{image}", record.image)
        if path.exists():
            require_inside(path, images, error=RecordError, where=f"record {record.id!r}")
            return path
    raise RecordError(f"record {record.id!r}: there is no image {record.image!r:.200} in {images}")
