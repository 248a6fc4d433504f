"""What a run asks: the records of a benchmark with their images, in the order in which they are asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from emma_viz.data import read_image
from emma_viz.errors import ImageError, InputError, RecordError
from emma_viz.files.atomic import write_file
from emma_viz.records.benchmarks import Benchmark, BenchmarkRecord, picture, read_benchmark
from emma_viz.records.complaints import Complaints
from emma_viz.records.questions import Question
from emma_viz.session.benchmarks.folder import RunRecipe, digest_of
from emma_viz.session.entry_names import entry_name
from emma_viz.session.options import Asking

QUESTION_FORMS = {
    "plain": "{question}",
    "cobra": "\n{question}\nAnswer the question using a single word or phrase.",
    "lmms-eval": "{question}\nAnswer the question using a single word or phrase.",
    "vlmevalkit": "{question} Please answer yes or no.",
}
"""Name → what a harness asks for a question; descriptions are asked for as they stand."""
DRAWN_IMAGES = "images"
"""The folder of a run that holds images that were drawn for it."""
_ORDER = ("yes-no", "short", "description")
"""Short answers first, so that no batch waits for its one long answer."""


def asked_form(form: str) -> str:
    """A form by its name, or as a text.

    Raises:
        InputError: it is neither.
    """
    text = QUESTION_FORMS.get(form, form)
    if "{question}" not in text:
        raise InputError(
            f"expected one of the forms {', '.join(QUESTION_FORMS)}, or a text with {{question}} in it, got "
            f"{form!r:.80}."
        )
    return text


@dataclass(frozen=True, kw_only=True)
class AskedSet:
    """The records of a run with their images, in the order in which they are asked."""

    records: tuple[BenchmarkRecord, ...]
    """Those whose image can be used."""
    questions: tuple[Question, ...]
    """Of each, what is asked."""
    paths: tuple[str | None, ...]
    """Of each image, relative to the folder of images."""
    images: str
    """The folder of images, as `RunAbout` has it."""
    places: tuple[int, ...]
    """Of each record, the place among all in the benchmark's order."""
    complaints: tuple[str, ...]
    """What is wrong with each row that was left out."""

    @classmethod
    def of(
        cls,
        name: str,
        kind: Benchmark,
        files: Sequence[Path],
        images: Path | None,
        out: Path,
        form: str,
        *,
        limit: int | None,
        broken_limit: int,
        convert_profile: bool,
    ) -> "AskedSet":
        """Read the records, and look at each image once."""
        broken = Complaints(broken_limit, where=name, error=InputError)

        def complain(error: RecordError) -> None:
            broken.add(len(broken), error)

        read = read_benchmark(name, files, on_error=complain).records
        read = _first(read, limit)
        root = out / DRAWN_IMAGES if kind.draw is not None else images
        pictures = _Pictures(kind, root, convert_profile)
        kept = []
        for record in read:
            try:
                kept.append((record, pictures.file(record)))
            except (RecordError, ImageError) as error:
                complain(RecordError(f"{record.where or record.id}: {error}"))
        if not kept:
            raise InputError(f"none of the {len(read)} records of {name} can be asked.")
        order = sorted(range(len(kept)), key=lambda place: _ORDER.index(kept[place][0].asked))
        chosen = [kept[place] for place in order]
        return cls(
            records=tuple(record for record, _ in chosen),
            questions=tuple(
                Question(image=path, prompt=asked_as(record, form), where=record.where)
                for record, path in chosen
            ),
            paths=tuple(
                None if path is None or root is None else path.relative_to(root).as_posix()
                for _, path in chosen
            ),
            images=DRAWN_IMAGES if kind.draw is not None else "" if images is None else str(images.resolve()),
            places=tuple(order),
            complaints=broken.messages,
        )

    def recipe(
        self,
        name: str,
        models: Sequence[str | Path],
        asking: Asking,
        batch_size: int,
        *,
        convert_profile: bool,
    ) -> RunRecipe:
        """All that decides the answers."""
        entries = tuple(map(entry_name, models))
        if len(set(entries)) < len(entries) or not entries:
            raise InputError(f"expected models with different names, got {', '.join(entries) or 'none'}.")
        lines = [
            (record.split, record.id, record.truth, question.prompt, path or "")
            for record, question, path in zip(self.records, self.questions, self.paths, strict=True)
        ]
        return RunRecipe(
            benchmark=name,
            digest=digest_of(lines),
            records=len(self.records),
            max_new_tokens=asking.max_new_tokens,
            temperature=asking.temperature,
            top_p=asking.top_p,
            seed=asking.seed,
            batch_size=batch_size,
            convert_profile=convert_profile,
            models=entries,
        )


def _first(records: Sequence[BenchmarkRecord], limit: int | None) -> list[BenchmarkRecord]:
    """The first of each split."""
    if limit is None:
        return list(records)
    counts: dict[str, int] = {}
    found = []
    for record in records:
        counts[record.split] = counts.get(record.split, 0) + 1
        if counts[record.split] <= limit:
            found.append(record)
    return found


def asked_as(record: BenchmarkRecord, form: str) -> str:
    """What is asked for a record, in a form; descriptions are asked for as they stand."""
    return record.question if record.asked == "description" else form.replace("{question}", record.question)


class _Pictures:
    """The image files of records; each is looked at once, and one that is drawn is written first."""

    def __init__(self, kind: Benchmark, root: Path | None, convert_profile: bool):
        self._kind, self._root, self._convert = kind, root, convert_profile
        self._seen: dict[str, Path | ImageError] = {}

    def file(self, record: BenchmarkRecord) -> Path | None:
        """The image's file; None for a question about none.

        Raises:
            RecordError: there is none.
            ImageError: it cannot be used.
        """
        if record.image is None:
            return None
        path = self._drawn(record) if self._kind.draw is not None else picture(self._kind, record, self._root)
        if str(path) not in self._seen:
            try:
                read_image(path, convert_profile=self._convert)
                self._seen[str(path)] = path
            except ImageError as error:
                self._seen[str(path)] = error
        found = self._seen[str(path)]
        if isinstance(found, ImageError):
            raise found
        return found

    def _drawn(self, record: BenchmarkRecord) -> Path:
        assert self._root is not None
        path = self._root / str(record.image)
        if not path.exists():
            self._root.mkdir(parents=True, exist_ok=True)
            pixels = Image.fromarray(picture(self._kind, record, None))
            write_file(path, lambda part: pixels.save(part, format="png"))
        return path
