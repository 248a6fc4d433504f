"""What a probe has kept so far, group by group: saved, loaded, and merged without a digit's difference.

Images are parted into GROUPS groups; the batches of a group are added in their order, by whoever works on that group,
so that the sums of many processes are those of one to the last digit.
"""

import hashlib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import emma_viz
from emma_viz.data.provenance import dump_json
from emma_viz.errors import EmmaVizError, StudyError
from emma_viz.files.arrays import read_npz
from emma_viz.files.atomic import write_file
from emma_viz.files.json_door import parse_json
from probes.protocol import Batch, Probe, Seen

MEND = "Delete this file and run the command again, which makes it afresh."
_PACKAGES = tuple(Path(each).resolve().parent for each in (emma_viz.__file__, __file__))
GROUPS = 32
"""Into which the images are parted: what intervals of sums are drawn from, and the most shards there can be."""


def size_of_batches(images: int) -> int:
    """Images in a batch, such that every group has some: 1 for up to 32 images, at most 8."""
    return max(1, min(8, images // GROUPS))


@lru_cache(maxsize=1)
def program() -> str:
    """A hash of this program's code, so that what another version saw is never added to what this one sees."""
    found = hashlib.sha256()
    for package in _PACKAGES:
        for file in sorted(package.rglob("*.py")):
            found.update(file.relative_to(package).as_posix().encode() + file.read_bytes())
    return found.hexdigest()[:16]


_GIVEN: dict[int, tuple[Probe, str | None]] = {}
"""Identity of a probe → it, so that it stays the only one of that identity, and a hash of the file that holds it."""


def keep_source(probe: Probe, given: Path | None) -> None:
    """Remember the files of a probe as they are now: they may be edited while models are loaded and run.

    Args:
        probe: it.
        given: the file that holds it as `PROBE`, whose class may be of another file; None: it was asked for by name.
    """
    if given is not None:
        _GIVEN[id(probe)] = probe, _hash(given)
    _source_of_class(type(probe))


def own_source(probe: Probe) -> str | None:
    """A hash of the files that a probe is written in, as they were when it was chosen.

    None: they are of this program, or there are none.
    """
    _, given = _GIVEN.get(id(probe), (probe, None))
    found = dict.fromkeys((given, _source_of_class(type(probe))))
    return "+".join(filter(None, found)) or None


@lru_cache
def _source_of_class(made_by: type) -> str | None:
    try:
        return _hash(Path(inspect.getfile(made_by)))
    except TypeError:  # what inspect raises of a class that was typed in
        return None


def _hash(file: Path) -> str | None:
    file = file.resolve()
    if any(file.is_relative_to(each) for each in _PACKAGES):
        return None
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    except OSError:
        return None


def once(batch: Batch, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Sums that hold the arrays of a group's first batch alone, whatever comes after it: flat, however many images."""
    return {name: each if batch.first else np.zeros((), each.dtype) for name, each in arrays.items()}


def batches_in(path: Path) -> int:
    """How many batches a ledger that was saved there is of.

    Raises:
        StudyError: the file is damaged.
    """
    meta = read_npz(path, error=StudyError, mend=MEND, names=("meta",))["meta"]
    try:
        return sum(parse_json(meta.tobytes(), where=str(path), error=StudyError)["done"].values())
    except (KeyError, TypeError, AttributeError) as error:
        raise StudyError(f"{path} is damaged ({error}). {MEND}") from error


def _shapes(
    kept: Mapping[tuple[str, int], np.ndarray], group: int, start: int = 0
) -> dict[str, tuple[int, ...]]:
    """The shapes of a group's arrays, from an axis on."""
    return {name: each.shape[start:] for (name, of), each in kept.items() if of == group}


def _require_alike(
    what: str, before: Mapping[str, tuple[int, ...]], now: Mapping[str, tuple[int, ...]]
) -> None:
    """Refuse a batch whose arrays are not those of the batches before.

    Raises:
        StudyError: names or shapes differ.
    """
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if names:
        then, new = ([each.get(name, "none") for name in names] for each in (before, now))
        raise StudyError(
            f"A probe's {what} need the same names and shapes in every batch; {', '.join(names)}: then {then}, now "
            f"{new}."
        )


@dataclass(kw_only=True)
class Ledger:
    """Columns and sums of each group, and how many batches of it they are of."""

    done: dict[int, int] = field(default_factory=dict)
    """Group → batches that were seen."""
    columns: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)
    sums: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, group: int, numbers: Iterable[int], seen: Seen) -> None:
        """Take in what a probe kept of the group's next batch.

        Raises:
            StudyError: a column has not one row for each image, or arrays are not those of the batches before.
        """
        rows = np.array(list(numbers), np.int64)
        columns = {"number": rows, **{name: np.asarray(each) for name, each in seen.columns.items()}}
        sums = {name: np.asarray(each) for name, each in seen.sums.items()}
        for name, column in columns.items():
            if column.shape[:1] != rows.shape:
                raise StudyError(
                    f"A probe's column {name!r} needs one row for each of {len(rows)} images, and has the shape "
                    f"{column.shape}."
                )
        if group in self.done:
            _require_alike(
                "columns", _shapes(self.columns, group, start=1), {n: c.shape[1:] for n, c in columns.items()}
            )
            # `once` gives a bare 0 for what is kept of the first batch alone.
            before = _shapes(self.sums, group)
            _require_alike("sums", before, {n: s.shape or before.get(n, ()) for n, s in sums.items()})
        for name, column in columns.items():
            kept = self.columns.get((name, group))
            self.columns[name, group] = column if kept is None else np.concatenate([kept, column])
        for name, part in sums.items():
            kept = self.sums.get((name, group))
            self.sums[name, group] = part.copy() if kept is None else np.asarray(kept + part)
        self.notes += [note for note in seen.notes if note not in self.notes]
        self.done[group] = self.done.get(group, 0) + 1

    def merge(self, other: "Ledger") -> None:
        """Take the groups of which the other has seen more."""
        for group, count in other.done.items():
            if count <= self.done.get(group, 0):
                continue
            self.done[group] = count
            for own, theirs in ((self.columns, other.columns), (self.sums, other.sums)):
                own.update({key: each for key, each in theirs.items() if key[1] == group})
        self.notes += [note for note in other.notes if note not in self.notes]

    def only(self, groups: Iterable[int]) -> "Ledger":
        """Of these groups alone."""
        kept = set(groups)
        return Ledger(
            done={group: count for group, count in self.done.items() if group in kept},
            columns={key: each for key, each in self.columns.items() if key[1] in kept},
            sums={key: each for key, each in self.sums.items() if key[1] in kept},
            notes=list(self.notes),
        )

    def joined(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Columns in the order of the images (`number` says which), and sums by group."""
        groups = sorted(self.done)
        numbers = [self.columns["number", group] for group in groups]
        order = np.argsort(np.concatenate(numbers), kind="stable") if numbers else np.zeros(0, int)
        names = dict.fromkeys(name for name, _ in self.columns)
        columns = {
            name: np.concatenate([self.columns[name, group] for group in groups])[order] for name in names
        }
        sums = {
            name: np.stack([self.sums[name, group] for group in groups])
            for name in dict.fromkeys(name for name, _ in self.sums)
        }
        return columns, sums

    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        """Write it, whole or not at all, with what it was made of."""
        arrays = {f"column:{name}:{group}": each for (name, group), each in self.columns.items()}
        arrays |= {f"sum:{name}:{group}": each for (name, group), each in self.sums.items()}
        meta = {"about": dict(about), "done": {str(g): n for g, n in self.done.items()}, "notes": self.notes}
        arrays["meta"] = np.frombuffer(dump_json(meta).encode(), np.uint8)

        def write(part: Path) -> None:
            with part.open("wb") as file:
                np.savez(file, **arrays)  # ty: ignore[invalid-argument-type]

        write_file(path, write)

    @classmethod
    def load(cls, path: Path, about: Mapping[str, Any]) -> "Ledger":
        """Read it.

        Raises:
            StudyError: the file is damaged, or was made of something else than `about`.
        """
        try:
            arrays = read_npz(path, error=StudyError, mend=MEND)
            meta = parse_json(arrays.pop("meta").tobytes(), where=str(path), error=StudyError)
            done = {int(group): int(count) for group, count in meta["done"].items()}
            found = cls(done=done, notes=[str(note) for note in meta["notes"]])
            for key, each in arrays.items():
                kind, name, group = key.split(":")
                (found.columns if kind == "column" else found.sums)[name, int(group)] = each
            was = meta["about"]
            kept = {group for name, group in found.columns if name == "number"}
            if kept != set(done):
                raise ValueError("groups are missing")
        except EmmaVizError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StudyError(f"{path} is damaged ({error}). {MEND}") from error
        if other := [name for name in about if was.get(name) != about[name]]:
            raise StudyError(
                f"{path} was made with another {', '.join(other)} (then {[was.get(name) for name in other]}, now "
                f"{[about[name] for name in other]}); name another folder with --out, or delete that one."
            )
        return found
