"""Questions about images, from whatever form they come in: files, a folder, a glob, or a list of records.

A list is a JSON array or one object a line (JSONL). Each record names one image and what is asked about it:

    {"image": "a.jpg", "question": "How many cups?"}            also "prompt" or "text", or several in a list
    {"image": "a.jpg"}                                          asked what all are asked
    {"image": "a.jpg", "conversations": [{"from": "human", …}]}  LLaVA: each human turn, by itself

Conversations without an image, of which LLaVA's data sets have many, ask these models nothing and are passed over.
Other keys are left alone.
"""

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emma_viz.data.image_names import image_name
from emma_viz.data.prompts import PLACEHOLDER
from emma_viz.errors import InputError, RecordError
from emma_viz.files.inside import require_inside
from emma_viz.files.named import is_web_address, named_path
from emma_viz.records.json_spans import spans
from emma_viz.records.llava import LONGEST_TEXT, parse_record

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""How the names of files end that are taken from a folder, in small letters."""
LISTS = (".json", ".jsonl")
"""How the names of lists end, in small letters."""
_KEYS = ("question", "prompt", "text")
"""Keys of what is asked about an image."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One image and what is asked about it."""

    image: Any
    """A path, a PIL image or an array; a path is read when its turn comes."""
    prompt: str
    """The message of the user's turn."""
    where: str = ""
    """The folder, pattern or record that it was found in; empty where the image itself was named."""


def find_questions(
    sources: Any,
    prompts: Sequence[str] = (),
    *,
    default: str,
    folder: Path | None = None,
    on_error: Callable[[RecordError], None] | None = None,
    on_text: Callable[[], None] = lambda: None,
) -> Iterator[Question]:
    """What is asked about images, image by image; no image is opened.

    Args:
        sources: one or several: an image (a path, a PIL image or an array), a folder of them, a glob, or a list of
            records (.json, .jsonl).
        prompts: each is asked about each image; none may be given to records that hold questions of their own.
        default: asked where there is neither a prompt nor a question.
        folder: that records' images are relative to; None: that of their list, which no link may lead out of.
        on_error: called with what is wrong with each record that is left out; None raises the first.
        on_text: called for each conversation without an image, which is passed over.

    Raises:
        InputError: a folder, pattern or list holds no image, or prompts are given beside questions.
        RecordError: a list cannot be read, or a record cannot be used.
    """
    several = sources if isinstance(sources, list | tuple) else [sources]
    if not several:
        raise InputError("expected at least one image, got none.")
    for source in several:
        if not isinstance(source, str | Path) or is_web_address(source):
            yield from (Question(image=source, prompt=each) for each in prompts or (default,))
            continue
        path = named_path(source)
        if path.suffix.lower() in LISTS and not path.is_dir():
            yield from _listed(path, prompts, default, folder, on_error, on_text)
            continue
        found = image_files(path)
        where = "" if found == [path] else str(path)
        for image in found:
            yield from (Question(image=image, prompt=each, where=where) for each in prompts or (default,))


def image_files(path: Path) -> list[Path]:
    """The images that a path stands for: those in a folder and below it, those of a pattern, or itself.

    Raises:
        InputError: a folder or pattern has none.
    """
    if path.is_dir():
        found = sorted(
            each
            for each in path.rglob("*")
            if each.suffix.lower() in PICTURES and not each.name.startswith(".") and each.is_file()
        )
        if not found:
            raise InputError(f"{path} holds no image: expected files that end in {', '.join(PICTURES)}.")
        return found
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    found = sorted(file for each in glob.iglob(str(path), recursive=True) if (file := Path(each)).is_file())
    if not found:
        raise InputError(f"no file is called as {path} says; check the pattern.")
    return found


def _listed(
    path: Path,
    prompts: Sequence[str],
    default: str,
    folder: Path | None,
    on_error: Callable[[RecordError], None] | None,
    on_text: Callable[[], None],
) -> Iterator[Question]:
    """The questions of a list."""
    for span in spans(path):
        where = f"record {span.index} of {path}"
        try:
            found = _record(span.value, span.index, path, folder)
        except RecordError as error:
            named = RecordError(f"{path}, {error}")
            if on_error is None:
                raise named from error
            on_error(named)
            continue
        if found is None:
            on_text()
            continue
        image, asked = found
        if prompts and asked:
            raise InputError(f"{where} holds a question of its own; leave the prompt (--prompt) out.")
        for prompt in asked or prompts or (default,):
            yield Question(image=image, prompt=prompt, where=where)


def _record(value: Any, index: int, path: Path, folder: Path | None) -> tuple[Path, tuple[str, ...]] | None:
    """The image of a record, and what the record asks about it; None for a conversation without an image."""
    where, root = f"record {index}", path.parent if folder is None else folder
    if isinstance(value, dict) and ("conversations" in value or "messages" in value):
        record = parse_record(value, index, images=root, answered=False)
        if record.image is None:
            return None
        name, asked = record.image, [turn.text for turn in record.turns if turn.role == "human"]
        asked = [text.replace(PLACEHOLDER, "").strip() for text in asked]
    elif isinstance(value, dict):
        name = value.get("image")
        name = None if name is None else image_name(name, where=where, folder=root)
        given = [key for key in _KEYS if value.get(key) is not None]
        if len(given) > 1:
            raise RecordError(f"{where}: expected one of {', '.join(_KEYS)}, got {' and '.join(given)}")
        found = value[given[0]] if given else []
        asked = found if isinstance(found, list) else [found]
    else:
        raise RecordError(
            f"{where}: expected an object with 'image' and 'question', got {type(value).__name__}"
        )
    if name is None:
        raise RecordError(f"{where}: expected the path of an image as 'image', got none")
    for text in asked:
        require_text(text, where)
    if folder is None:
        require_inside(root / name, root, error=RecordError, where=where)
    return root / name, tuple(asked)


def require_text(text: Any, where: str) -> None:
    """Refuse a question that is no text, empty, too long, or holds half a character.

    Raises:
        RecordError: names what is wrong, after `where`.
    """
    if not isinstance(text, str) or not text.strip():
        raise RecordError(f"{where}: expected a question as a text, got {text!r:.80}")
    if len(text) > LONGEST_TEXT:
        raise RecordError(f"{where}: expected at most {LONGEST_TEXT:,} characters, got {len(text):,}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RecordError(f"{where}: the question holds half a character (a lone surrogate)") from None
