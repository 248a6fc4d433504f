"""A folder of photographs by category, and which split each of them is in."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from emma_viz.data.photos.categories import PHOTO_CATEGORIES
from emma_viz.errors import InputError

_SHARES = {"train": 70, "val": 10, "test": 20}
"""Split → its share of the photographs, percent."""

_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """One photograph.

    Attributes:
        path: its file.
        category: number in PHOTO_CATEGORIES.
        digest: SHA-256 of the file's bytes, hexadecimal; it alone decides the split.
    """

    path: Path
    category: int
    digest: str

    @property
    def split(self) -> str:
        """ "train", "val" or "test": copies of one file are in one split, whatever they are called."""
        return split_of_photo(self.digest)

    def open(self) -> Image.Image:
        """The picture in RGB.

        Raises:
            InputError: it cannot be read.
        """
        try:
            with Image.open(self.path) as image:
                return image.convert("RGB")
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"{self.path} cannot be read as a photograph: {error}") from error


def split_of_photo(digest: str) -> str:
    """The split of a file, from the hash of its bytes."""
    place, end = int(digest[:8], 16) % 100, 0
    for split, share in _SHARES.items():
        end += share
        if place < end:
            return split
    raise AssertionError("shares are of a hundred")


@dataclass(frozen=True, kw_only=True)
class PhotoLibrary:
    """All photographs of a folder.

    Attributes:
        photos: in the order of categories and of file names.
    """

    photos: tuple[Photograph, ...]

    @classmethod
    def open(cls, folder: Path) -> "PhotoLibrary":
        """Look a folder through: one folder a category, named as Caltech-101 names them; others are left alone.

        A file that another category holds as well is kept in the first of the two alone.

        Raises:
            InputError: there are no such photographs, or a category has none.
        """
        found: dict[str, Photograph] = {}
        for number, category in enumerate(PHOTO_CATEGORIES):
            files = sorted(
                path for path in (folder / category.folder).glob("*") if path.suffix.lower() in _SUFFIXES
            )
            if not files:
                raise InputError(
                    f"{folder} has no photographs of {category.name}: expected a folder {category.folder} with "
                    "pictures, as in Caltech-101 (CaltechDATA). Name its folder with --photos."
                )
            for path in files:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                found.setdefault(digest, Photograph(path=path, category=number, digest=digest))
        return cls(photos=tuple(found.values()))

    def split(self, name: str) -> tuple[Photograph, ...]:
        """The photographs of one split.

        Raises:
            InputError: there is no such split.
        """
        if name not in _SHARES:
            raise InputError(f"A split of photographs is one of {', '.join(_SHARES)}; got {name!r}.")
        return self._splits[name]

    @cached_property
    def _splits(self) -> dict[str, tuple[Photograph, ...]]:
        return {name: tuple(photo for photo in self.photos if photo.split == name) for name in _SHARES}

    @cached_property
    def frequency(self) -> np.ndarray:
        """Training photographs of each category, int64 (99,)."""
        numbers = [photo.category for photo in self.split("train")]
        return np.bincount(numbers, minlength=len(PHOTO_CATEGORIES))

    @property
    def digest(self) -> str:
        """Hash of all photographs: tells sets apart."""
        return hashlib.sha256("".join(photo.digest for photo in self.photos).encode()).hexdigest()[:16]


def of_category(photos: Sequence[Photograph]) -> list[list[int]]:
    """For each category, the places of its photographs in `photos`."""
    found: list[list[int]] = [[] for _ in PHOTO_CATEGORIES]
    for place, photo in enumerate(photos):
        found[photo.category].append(place)
    return found
