"""A study that the explorer shows: its questions in their order, whatever shapes of grids their images became."""

from collections import Counter
from pathlib import Path

from PIL import Image

from emma_viz.errors import InputError
from emma_viz.session import Comparison
from emma_viz.session.studies import compare_shapes


class ShownStudy:
    """The decoded recordings of a study.

    Args:
        path: its folder.

    Raises:
        StudyError: it cannot be read, or holds no decoded pixels.
    """

    def __init__(self, path: Path):
        self.path = path
        self._shapes = compare_shapes(path)
        found = sorted(
            (number, place, comparison)
            for numbers, comparison in self._shapes
            for place, number in enumerate(numbers)
        )
        self._places = tuple((comparison, place) for _, place, comparison in found)
        self.questions = tuple(
            (comparison.decodings[0].image_hashes[place], comparison.decodings[0].prompts[place])
            for comparison, place in self._places
        )
        """Of each question the hash of its image, and its prompt."""

    def images(self) -> dict[str, tuple[str, Image.Image]]:
        """Hash → name and image, each once."""
        return {
            digest: (comparison.image_names[place], comparison.decodings[0].images[place])
            for (digest, _), (comparison, place) in zip(self.questions, self._places, strict=True)
        }

    def captions(self) -> list[str]:
        """What each question is called: its image, and its prompt where the image is asked about twice."""
        asked, found = Counter(digest for digest, _ in self.questions), []
        for (digest, prompt), (comparison, place) in zip(self.questions, self._places, strict=True):
            name = comparison.image_names[place]
            found.append(f"{name}: {prompt}" if asked[digest] > 1 else name)
        return found

    def number_of(self, digest: str, prompt: str = "") -> int:
        """The question about an image: with this prompt, or else its first; question 0 where there is none."""
        if (digest, prompt) in self.questions:
            return self.questions.index((digest, prompt))
        digests = [each for each, _ in self.questions]
        return digests.index(digest) if digest in digests else 0

    def find(self, number: int, entries: tuple[str, ...] = ()) -> tuple[Comparison, int]:
        """The comparison that holds a question, and its place there.

        Args:
            number: of the question, from 0.
            entries: of the study, which are shown; all when empty.

        Raises:
            InputError: there is no such question.
            StudyError: there is no such entry.
        """
        shapes = compare_shapes(self.path, entries=list(entries)) if entries else self._shapes
        for numbers, comparison in shapes:
            if number in numbers:
                return comparison, numbers.index(number)
        raise InputError(f"The study has questions 0 to {len(self.questions) - 1}; got {number}.")

    @property
    def said(self) -> str:
        """Its models, its images, and its questions where they are more."""
        names = ", ".join(decoding.model.name for decoding in self._shapes[0][1].decodings)
        count = len({digest for digest, _ in self.questions})
        images = "one image" if count == 1 else f"{count} images"
        more = f", {len(self.questions)} questions" if len(self.questions) > count else ""
        return f"{names}; {images}{more}"
