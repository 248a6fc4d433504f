"""What models are asked, from whatever a user names, looked at once before any model is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emma_viz.data import image_hash, read_image
from emma_viz.data.labels import names_of
from emma_viz.errors import ImageError, InputError
from emma_viz.records.complaints import Complaints
from emma_viz.records.questions import Question, find_questions
from emma_viz.session.options import BROKEN_LIMIT


@dataclass(frozen=True, kw_only=True, eq=False)
class QuestionSet:
    """Questions that can be asked: of each the image was read once."""

    questions: tuple[Question, ...]
    """In the order in which they are asked."""
    names: tuple[str, ...]
    """What the image of each is called; one image has one name."""
    image_hashes: tuple[str, ...]
    """`image_hash` of the image of each."""
    image_bytes: int
    """Bytes of the pixels of all different images: at most so many are stored."""
    left_out: tuple[str, ...]
    """What is wrong with each image or record that was left out."""
    text_only: int = 0
    """Conversations without an image, which were passed over."""
    first: int = 0
    """The place of the part's first question among all."""
    of_parts: tuple[int, ...] = ()
    """How many questions each part has, those that may be left out among them."""

    def __len__(self) -> int:
        """The number of questions."""
        return len(self.questions)


def gather(
    sources: Any,
    prompts: Sequence[str] = (),
    *,
    default: str,
    folder: Path | None = None,
    part: tuple[int, int] = (1, 1),
    broken_limit: int = BROKEN_LIMIT,
    convert_profile: bool = False,
) -> QuestionSet:
    """The questions that a user means.

    An image or record that was found in a folder, by a pattern or in a list, and cannot be used, is left out and named
    in the log; an image that the user named himself is an error.

    Args:
        sources: as for `emma_viz.records.questions.find_questions`.
        prompts: as there.
        default: as there.
        folder: as there.
        part: (i, n) keeps the i-th of n parts, about as large each, of questions in their order.
        broken_limit: images and records that may be left out.
        convert_profile: convert images with a colour profile to sRGB.

    Raises:
        InputError: there is no question left, more is left out than may be, or `part` is none.
        ImageError: an image that was named cannot be used.
        RecordError: a list cannot be read.
    """
    complaints = Complaints(broken_limit, where="What was named", error=InputError)
    text_only: list[None] = []
    found = list(
        find_questions(
            sources,
            prompts,
            default=default,
            folder=folder,
            on_error=lambda error: complaints.add(len(complaints), error),
            on_text=lambda: text_only.append(None),
        )
    )
    # Of all, so that what an image is called does not depend on the part.
    names = image_names_of([question.image for question in found])
    first, last = bounds(len(found), part)
    looked: dict[Any, tuple[str, int] | None] = {}
    kept = []
    for question, name in zip(found[first:last], names[first:last], strict=True):
        key = _key(question.image)
        if key not in looked:
            looked[key] = _look(question, complaints, convert_profile)
        if (seen := looked[key]) is not None:
            kept.append((question, name, seen))
    if not kept:
        raise InputError(f"none of the {last - first} questions has an image that can be used.")
    return QuestionSet(
        questions=tuple(question for question, _, _ in kept),
        names=tuple(name for _, name, _ in kept),
        image_hashes=tuple(digest for _, _, (digest, _) in kept),
        image_bytes=sum(dict(seen for _, _, seen in kept).values()),
        left_out=complaints.messages,
        text_only=len(text_only),
        first=first,
        of_parts=tuple(
            end - begin for begin, end in (bounds(len(found), (i + 1, part[1])) for i in range(part[1]))
        ),
    )


def bounds(count: int, part: tuple[int, int]) -> tuple[int, int]:
    """The first question of the i-th of n parts, and the first after it.

    Raises:
        InputError: there is no such part, or there are fewer questions than parts.
    """
    index, parts = part
    if not 1 <= index <= parts:
        raise InputError(f"expected a part i/n with i from 1 to n, got {index}/{parts}.")
    if count < parts:
        raise InputError(f"expected at least one question for each of {parts} parts, got {count} questions.")
    return (index - 1) * count // parts, index * count // parts


def image_names_of(sources: Sequence[Any]) -> tuple[str, ...]:
    """What images are called, each by one name however often it comes."""
    different = {_key(source): source for source in sources}
    names = names_of(list(different.values()))
    called = dict(zip(different, names, strict=True))
    return tuple(called[_key(source)] for source in sources)


def _key(source: Any) -> Any:
    """What is the same for the same image."""
    return str(source) if isinstance(source, str | Path) else id(source)


def _look(question: Question, complaints: Complaints, convert_profile: bool) -> tuple[str, int] | None:
    """The hash and the bytes of an image; None where it is left out."""
    try:
        image = read_image(question.image, convert_profile=convert_profile)
    except ImageError as error:
        if not question.where:
            raise
        complaints.add(len(complaints), f"{question.where}: {error}")
        return None
    return image_hash(image), 3 * image.width * image.height
