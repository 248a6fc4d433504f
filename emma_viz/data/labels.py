"""What an image is called, and what was done to it on the way in: the label travels with the PIL image."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

_KEY = "emma_viz.label"


@dataclass(frozen=True, kw_only=True)
class ImageLabel:
    """The words that belong to one image."""

    name: str = ""
    """The file's own name; empty for an image that came from no file."""
    notes: tuple[str, ...] = ()
    """What a reader of pictures should know: an ignored colour profile, transparent parts, a guessed scale."""


def label_of(image: Image.Image) -> ImageLabel:
    """The label of an image; an empty one where nobody gave it one."""
    found = image.info.get(_KEY)
    if isinstance(found, ImageLabel):
        return found
    name = getattr(image, "filename", "")
    return ImageLabel(name=Path(name).name if isinstance(name, str | Path) and name else "")


def labelled(image: Image.Image, label: ImageLabel) -> Image.Image:
    """The image with a label, and nothing else of what its file said beside the pixels."""
    image.info = {_KEY: label}
    return image


def told_apart(paths: Sequence[Path | None]) -> tuple[str, ...]:
    """What images are called: the file's name, with as many folders before it as tell it from the others.

    One file that is given twice gets a number, and what came from no file is `image N`.
    """
    parts = [path.absolute().parts if path else () for path in paths]
    # Of different files, how many end in these parts.
    ends = Counter(each[start:] for each in set(parts) for start in range(len(each)))
    names = [_shortest(each, ends) if each else f"image {index + 1}" for index, each in enumerate(parts)]
    counts, seen = Counter(names), Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(f"{name} ({seen[name]})" if counts[name] > 1 else name)
    return tuple(found)


def names_of(sources: Sequence[Any]) -> tuple[str, ...]:
    """What images are called, from their paths, their labels, or the images themselves."""
    return told_apart([_file_of(source) for source in sources])


def names_of_pictures(hashes: Sequence[str], labels: Sequence[ImageLabel]) -> tuple[str, ...]:
    """What images are called whose hashes and labels are known: by their files, else by their hashes.

    An image that comes several times, under several prompts, is one image and keeps one name.
    """
    if not any(label.name for label in labels):
        return tuple(f"image {digest[:8]}" for digest in hashes)
    pairs = list(zip(hashes, labels, strict=True))
    different = list(dict.fromkeys(pairs))
    names = dict(zip(different, names_of([label for _, label in different]), strict=True))
    return tuple(names[pair] for pair in pairs)


def _file_of(source: Any) -> Path | None:
    """The path of an image, or the name in its label; None for what has neither."""
    if isinstance(source, str | Path):
        return Path(source)
    label = label_of(source) if isinstance(source, Image.Image) else source
    return Path(label.name) if isinstance(label, ImageLabel) and label.name else None


def _shortest(own: tuple[str, ...], ends: Mapping[tuple[str, ...], int]) -> str:
    """The fewest last parts of a path that no other path ends in."""
    lengths = (length for length in range(1, len(own)) if ends[own[-length:]] == 1)
    return "/".join(own[-next(lengths, len(own)) :])
