"""The images of an examination: a folder, records, or tabletop scenes with labels, masks and twins."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

from PIL import Image

from emma_viz.data import image_hash, read_image
from emma_viz.data.labels import ImageLabel, labelled, told_apart
from emma_viz.data.tabletop import Twins, existence, twins
from emma_viz.data.tabletop.kinds import BY_FREQUENCY
from emma_viz.errors import ImageError, InputError, RecordError
from emma_viz.records.questions import find_questions
from emma_viz.session.options import Asking
from probes.protocol import Subject

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""Files of a folder that are taken for images."""


@runtime_checkable
class Subjects(Protocol):
    """Images by number; one is made, or read, when it is taken."""

    names: tuple[str, ...]
    digest: str
    """Tells these images, in this order and with these prompts, from others."""
    said: str
    """What they are, for the report."""
    labels: bool
    """Whether masks and kinds are known."""
    pairs: bool
    """Whether there are twins."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def take(self, number: int) -> Subject:
        """One of them."""
        ...


class Scenes:
    """Tabletop scenes of a split, from its first on, each with a twin that lacks one object.

    Args:
        count: how many.
        split: "test" or another.
    """

    labels = pairs = True

    def __init__(self, count: int, *, split: str = "test"):
        self._twins = _first_twins(count, split)
        self.names = tuple(f"{split} {each.scene.index}" for each in self._twins)
        self.digest = _digest([f"tabletop {name}" for name in self.names])
        self.said = (
            f"{count} tabletop scenes (split {split}), each with a question about an object that is there"
        )

    def __len__(self) -> int:
        return len(self._twins)

    def take(self, number: int) -> Subject:
        """Draw one."""
        pair = self._twins[number]
        drawn, without = pair.draw()
        things = pair.scene.things
        return Subject(
            number=number,
            name=self.names[number],
            image=labelled(Image.fromarray(drawn.image), ImageLabel(name=self.names[number])),
            prompt=pair.question.question,
            words=("Yes", "No"),
            mask=drawn.mask,
            kinds=tuple(thing.kind for thing in things),
            colours=tuple(thing.colour for thing in things),
            target=pair.number + 1,
            absent=_absent(pair),
            twin=Image.fromarray(without.image),
        )


def _absent(pair: Twins) -> str:
    """The question about a kind that the scene lacks, the next one by frequency."""
    start = BY_FREQUENCY.index(pair.kind)
    order = (*BY_FREQUENCY[start + 1 :], *BY_FREQUENCY[:start])
    others = [kind for kind in order if not pair.scene.count(kind)]
    return existence(pair.scene, others[0]).question if others else ""


@lru_cache(maxsize=4)
def _first_twins(count: int, split: str) -> tuple[Twins, ...]:
    return tuple(pair for _, pair in zip(range(count), twins(split), strict=False))


@dataclass(frozen=True, kw_only=True)
class Photo:
    """One image file and what is asked of it."""

    path: Path
    prompt: str


class Photos:
    """Image files, with nothing known of what they show: each image once, as images are what is drawn and held out.

    Args:
        photos: the files; of several that show one image, or ask about it, the first is taken.
        said: what they are.
        count: the most to take, the first ones; None: all.

    Raises:
        ImageError: one cannot be read; all up to the last that is taken are looked at.
    """

    labels = pairs = False

    def __init__(self, photos: Sequence[Photo], *, said: str, count: int | None = None):
        kept: dict[str, Photo] = {}
        paths, again = set(), 0
        for each in photos:
            if len(kept) == count:
                break
            known = each.path in paths or (found := image_hash(read_image(each.path))) in kept
            paths.add(each.path)
            if known:
                again += 1
            else:
                kept[found] = each
        self._photos = tuple(kept.values())
        self.names = told_apart([each.path for each in self._photos])
        self.digest = _digest([f"{one} {each.prompt}" for one, each in kept.items()])
        self.said = said if len(kept) == len(photos) else f"{len(kept)} of {said}"
        if again:
            self.said += f" (of each image the first; {again} were of an image that came before)"

    def __len__(self) -> int:
        return len(self._photos)

    def take(self, number: int) -> Subject:
        """Read one."""
        photo = self._photos[number]
        return Subject(
            number=number, name=self.names[number], image=read_image(photo.path), prompt=photo.prompt
        )


def subjects_of(images: Path | None, *, count: int, prompt: str = Asking.prompt) -> Subjects:
    """The images that were asked for, each once; at most `count` of them.

    Args:
        images: a folder of images, or a JSON file of records; tabletop scenes when None.
        count: the most to take, the first ones.
        prompt: what is asked about images without a question of their own.

    Raises:
        InputError: there are none.
        ImageError: one cannot be read.
        RecordError: a record has no image.
    """
    if count < 1:
        raise InputError(f"expected at least one image, got {count}.")
    if images is None:
        return Scenes(count)
    if images.is_dir():
        files = sorted(
            each for each in images.rglob("*") if each.suffix.lower() in ENDINGS and each.is_file()
        )
        if not files:
            raise InputError(f"{images} holds no image ({', '.join(ENDINGS)}); name a folder that does.")
        photos = [Photo(path=file, prompt=prompt) for file in files]
        return Photos(photos, said=f"{len(files)} images in {images.name}", count=count)
    if images.suffix.lower() in (".json", ".jsonl"):
        photos = _records(images, prompt)
        return Photos(photos, said=f"{len(photos)} records in {images.name}", count=count)
    if images.is_file():
        return Photos([Photo(path=images, prompt=prompt)], said=images.name)
    raise InputError(f"{images}: there is no such folder or file; check the path.")


def _records(path: Path, prompt: str) -> list[Photo]:
    photos = [Photo(path=each.image, prompt=each.prompt) for each in find_questions(path, default=prompt)]
    if not photos:
        raise RecordError(f'{path}: expected a list of records such as {{"image": "a.jpg"}}.')
    if missing := [each.path for each in photos if not each.path.is_file()]:
        raise ImageError(f"{path}: there is no image {missing[0]}; names are relative to the records.")
    return photos


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", errors="surrogatepass")).hexdigest()[:24]
