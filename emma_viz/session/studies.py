"""Studies that were captured: what is decoded of them, compared without the models."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from emma_viz.capture.trace import Trace
from emma_viz.errors import InputError, StudyError
from emma_viz.maps import Decoding
from emma_viz.maps.joining import joined
from emma_viz.session.capturing.stores import DECODING
from emma_viz.session.comparison import Comparison
from emma_viz.session.entry_names import image_names_of_entry
from emma_viz.study import Study, open_study
from emma_viz.study.shards import data_set


def compare_study(
    path: Path, *, entries: Sequence[str] | None = None, samples: Sequence[int] | None = None
) -> Comparison:
    """The decodings that a study holds.

    Args:
        path: the study's folder.
        entries: which, in this order; all that hold a trace when None.
        samples: numbers of the questions, from 0, in this order; all when None.

    Raises:
        StudyError: an entry or question does not exist, or was not decoded yet.
        InputError: the entries are of different images, or what is shown together has grids of several shapes.
    """
    held = HeldDecodings.of(path, entries)
    if samples is None and len(shapes := held.by_shape()) > 1:
        grids = [" and ".join("{}×{}".format(*grid) for grid in dict.fromkeys(key)) for key in shapes]
        said = [f"--samples {' '.join(map(str, numbers))}" for numbers in shapes.values()]
        raise InputError(
            f"The images of {path} became grids of several shapes, and a picture shows those of one: say which ("
            + "; ".join(f"{words} for {grid}" for words, grid in zip(said, grids, strict=True))
            + ")."
        )
    return held.comparison(range(held.count) if samples is None else samples)


def compare_shapes(
    path: Path, *, entries: Sequence[str] | None = None
) -> tuple[tuple[tuple[int, ...], Comparison], ...]:
    """`compare_study` of all questions: one comparison for each shape of grids, with the numbers of its questions.

    Raises:
        StudyError: an entry does not exist, or was not decoded yet.
        InputError: the entries are of different images.
    """
    held = HeldDecodings.of(path, entries)
    return tuple((tuple(numbers), held.comparison(numbers)) for numbers in held.by_shape().values())


@dataclass(frozen=True, eq=False)
class HeldBatch:
    """Samples that were decoded together, whose pixels stay on the disk until they are wanted."""

    study: Study
    entry: str
    trace: Trace
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]

    def __len__(self) -> int:
        return len(self.trace)

    def decoding(self) -> Decoding:
        """The decoded pixels, which are held to be those of the trace.

        Raises:
            StudyError: they are damaged, or of other images.
        """
        return _checked(self.study, self.entry, self.trace, self.arrays, self.meta)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldDecodings:
    """The decodings that a study holds of some entries, of the same images."""

    study: Study
    batches: Mapping[str, Sequence[HeldBatch]]
    """Of each entry all, in order."""

    @classmethod
    def of(cls, path: Path, entries: Sequence[str] | None) -> "HeldDecodings":
        """Look at what is decoded of some entries, or of all that hold a trace; no pixel is read.

        Raises:
            StudyError: an entry does not exist, or was not decoded yet.
            InputError: the entries are of different images.
        """
        study = open_study(path)
        batches = {
            name: [each for part in study.parts_of(name) for each in held_batches(study, part)]
            for name in _decoded_entries(study, entries)
        }
        first, *others = batches
        hashes = {
            name: [one for each in own for one in each.trace.image_hashes] for name, own in batches.items()
        }
        for other in others:
            if hashes[other] != hashes[first]:
                raise InputError(
                    f"expected {first} and {other} of {path} to be of the same images, but their image hashes differ; "
                    "name entries that are with --entries."
                )
        return cls(study=study, batches=batches)

    @property
    def count(self) -> int:
        """Questions."""
        return sum(map(len, next(iter(self.batches.values()))))

    def by_shape(self) -> dict[tuple[tuple[int, int], ...], list[int]]:
        """The numbers of the questions, by the grids that the models made of their images."""
        grids = [
            [place.grid for each in own for place in each.trace.geometry] for own in self.batches.values()
        ]
        found: dict[tuple[tuple[int, int], ...], list[int]] = {}
        for number, key in enumerate(zip(*grids, strict=True)):
            found.setdefault(key, []).append(number)
        return found

    def decodings(self, numbers: Collection[int]) -> Iterator[Decoding]:
        """Of some questions of the one entry, in the order in which they are kept, a batch at a time.

        Raises:
            StudyError: a batch is damaged, or of other images than its trace.
        """
        (batches,), start = self.batches.values(), 0
        for batch in batches:
            some = [row for row in range(len(batch)) if start + row in numbers]
            start += len(batch)
            if len(some) == len(batch):
                yield batch.decoding()
            elif some:
                yield batch.decoding().select(samples=some)

    def comparison(self, numbers: Sequence[int]) -> Comparison:
        """Of some questions.

        Raises:
            StudyError: there is no such question.
            InputError: their grids have several shapes.
        """
        if odd := [number for number in numbers if not 0 <= number < self.count]:
            raise StudyError(f"{self.study.path} holds {self.count} questions, and no number {odd[0]}.")
        names: tuple[str, ...] = ()
        for entry in self.batches:
            of_parts = [image_names_of_entry(self.study, part) for part in self.study.parts_of(entry)]
            names = (all(of_parts) and tuple(chain.from_iterable(of_parts))) or names
        return Comparison(
            decodings=tuple(
                _chosen(own, self.study.images(entry, numbers), numbers)
                for entry, own in self.batches.items()
            ),
            image_names=tuple(names[number] for number in numbers) if names else (),
        )


def _decoded_entries(study: Study, entries: Sequence[str] | None) -> list[str]:
    chosen = chosen_entries(study, entries)
    undecoded = [entry for entry in chosen if not _is_decoded(study, entry)]
    if undecoded:
        raise StudyError(
            f"{study.path} holds no decoded pixels yet of {', '.join(map(repr, undecoded))}; run `emma-viz decode "
            f"{study.path}` first."
        )
    return chosen


def compared_entries(path: Path) -> tuple[str, ...]:
    """The data sets of a study that `compare_study` takes where none is named, in its order.

    Raises:
        StudyError: there is no such study, it is not finished, or holds none.
    """
    return tuple(chosen_entries(open_study(path), None))


def decoded_sample(path: Path, entry: str, sample: int) -> tuple[Decoding, str]:
    """The decoding of one question of a study, and the name of its image.

    Raises:
        StudyError: there is no such study, entry or sample, or it was not decoded yet.
    """
    found = compare_study(path, entries=[entry], samples=[sample])
    return found.decodings[0], found.image_names[0]


def _is_decoded(study: Study, name: str) -> bool:
    parts = [study.entry(part) for part in study.parts_of(name)]
    return all(DECODING in (*part.arrays, *part.beside, *part.derived) for part in parts)


def _arrays_names(count: int) -> list[str]:
    """What the decodings of the pieces of an entry are called."""
    return [DECODING, *(f"{DECODING}-{number}" for number in range(2, count + 1))]


def _chosen(batches: Sequence[HeldBatch], images: Sequence[Image.Image], numbers: Sequence[int]) -> Decoding:
    """Some samples of several batches, numbered through, as one; the other batches are not looked at."""
    rows = [(index, row) for index, each in enumerate(batches) for row in range(len(each))]
    wanted = [rows[number] for number in numbers]
    made = {index: batches[index].decoding() for index in dict.fromkeys(index for index, _ in wanted)}
    parts = [
        (made[index], [row for _, row in some]) for index, some in groupby(wanted, key=lambda each: each[0])
    ]
    # Of a whole batch nothing is selected: that would read its photographs.
    picked = [each if some == list(range(len(each))) else each.select(samples=some) for each, some in parts]
    return joined(picked, images=images)


def held_batches(study: Study, part: str) -> Iterator[HeldBatch]:
    """The decoded pixels of an entry: those of its batches, or, where they are kept of the whole entry, of its pieces.

    Raises:
        StudyError: there are none, or they are of other images than its trace.
    """
    there = study.entry(part).arrays
    if DECODING not in there:
        pairs = zip(study.traces(part), study.batch_arrays(part, DECODING), strict=True)
        return (HeldBatch(study, part, trace, *arrays) for trace, arrays in pairs)
    pieces = study.pieces(part)
    names = _arrays_names(len(pieces))
    if not set(names) <= set(there):
        raise _of_others(study, part, sum(map(len, pieces)))
    pairs = zip(pieces, names, strict=True)
    return (HeldBatch(study, part, piece, *study.load_arrays(part, name)) for piece, name in pairs)


def _of_others(study: Study, entry: str, count: int) -> StudyError:
    return StudyError(
        f"The decoded pixels of {entry!r} in {study.path} are of other images than its trace, which holds "
        f"{count}; run `emma-viz decode {study.path}` again."
    )


def _checked(study: Study, entry: str, trace: Trace, arrays: dict[str, np.ndarray], meta: dict) -> Decoding:
    """The decoded pixels of a trace, which is held to be that of the same images."""
    try:
        decoding = Decoding.from_arrays({"views": trace.views, **arrays}, meta, images=trace.images)
        kept = ("image_hashes", "model", "geometry", "prompts", "answers")
        same = all(getattr(decoding, name) == getattr(trace, name) for name in kept)
        same = same and np.array_equal(decoding.views, trace.views)
    except InputError as error:
        if meta.get("image_hashes") == list(trace.image_hashes):
            raise StudyError(f"{study.path}, decoded pixels of {entry!r}: {error}") from error
        same = False
    if not same:
        raise _of_others(study, entry, len(trace))
    return decoding


def chosen_entries(study: Study, wanted: Sequence[str] | None) -> list[str]:
    """The data sets of a study that are meant: those named, or all that hold a trace.

    Raises:
        StudyError: one does not exist, the study is not finished, or it holds none.
    """
    there = study.entries
    held = dict.fromkeys(data_set(name) for name, entry in there.items() if entry.samples)
    found = list(wanted or held)
    if not wanted and (missing := study.missing):
        lacks = ", ".join(f"{name!r} ({have} of {want} images)" for name, (have, want) in missing.items())
        raise StudyError(
            f"{study.path} is not finished: it lacks {lacks}. Run the same `emma-viz capture` command again, "
            "which goes on where it stopped, or name what to use with --entries."
        )
    if not found:
        raise StudyError(
            f"{study.path} holds no trace; add one with `emma-viz capture IMAGE … --out {study.path}`."
        )
    for name in found:
        study.parts_of(name)  # a wrong name is an error before anything is done
    return found
