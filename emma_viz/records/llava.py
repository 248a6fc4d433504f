"""Data sets in LLaVA's JSON form and its kin, read one record at a time.

A data set is a JSON array (LLaVA-v1.5-mix-665K and its kin), or one object a line (JSONL):

    {"id": "…", "image": "coco/….jpg", "conversations": [{"from": "human", "value": "<image>\\n…"},
                                                         {"from": "gpt", "value": "…"}, …]}

Text-only records have no "image". Also read: "images", with one image in a list; "user" and "assistant" for "human" and
"gpt"; "messages" with "role" and "content", whose content may be parts. Other keys are left alone, unless a record
that names no image has one that seems to name some.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emma_viz.data.image_names import image_name
from emma_viz.data.prompts import PLACEHOLDER, PromptStyle, Turn, wrap_turn
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.errors import RecordError
from emma_viz.records.json_spans import spans

LONGEST_TEXT = 1_000_000
"""Characters of a turn, more than models read: of one long word, a tokenizer needs hundreds of bytes for each."""
IGNORE = -100
"""The label of tokens that are not trained on."""

ROLES = {"human": "human", "user": "human", "gpt": "gpt", "assistant": "gpt"}
"""What the two who speak are called, and what we call them."""
_KEYS = (("from", "value"), ("role", "content"))
"""Keys of a turn: who speaks, and what."""
MEDIA = (
    "image",
    "images",
    "image_path",
    "image_file",
    "image_url",
    "img",
    "picture",
    "photo",
    "video",
    "videos",
    "audio",
)
"""Keys, in small letters, that name what a record without an image would lose in silence."""


@dataclass(frozen=True, kw_only=True)
class LlavaRecord:
    """One conversation, about one image or none."""

    index: int
    """Its place in the file, from 0."""
    id: str
    """Its "id"; its place in the file when it has none."""
    image: str | None
    """Path of the image, relative to the data set's image folder and without detours, so that an image has one name;
    None for a text-only record."""
    turns: tuple[Turn, ...]
    """Human and gpt turns in alternation; the first is human, and at least one is gpt."""


def read_records(
    path: str | Path,
    *,
    images: Path | None = None,
    on_error: Callable[[RecordError], None] | None = None,
) -> Iterator[LlavaRecord]:
    """Read a data set record by record; the file is never in memory as a whole.

    Args:
        path: a JSON array or JSONL file, in UTF-8.
        images: the folder of its images, for records with absolute paths.
        on_error: called with each record's error, which is then left out; None raises the first one.

    Yields:
        the records that are valid.

    Raises:
        RecordError: the file cannot be read, or is an array that does not end; or a record cannot be used: names it and
            what is wrong.
    """
    for span in spans(Path(path)):
        try:
            record = parse_record(span.value, span.index, images=images)
        except RecordError as error:
            if on_error is None:
                raise
            on_error(error)
        else:
            yield record


def parse_record(value: Any, index: int, *, images: Path | None = None, answered: bool = True) -> LlavaRecord:
    """Check one record.

    Args:
        value: what the JSON holds.
        index: the record's place in the file, from 0.
        images: the folder of the images, which an absolute path must lead into; None refuses absolute paths.
        answered: whether there must be an answer.

    Raises:
        RecordError: names the record and what is wrong with it.
    """
    where = f"record {index}"
    if not isinstance(value, dict):
        raise RecordError(f"{where}: expected an object with 'conversations', got {type(value).__name__}")
    identifier = value.get("id")
    if identifier is None:
        identifier = index
    elif isinstance(identifier, str | int | float):
        where = f"record {index} (id {identifier!r:.60})"
    else:
        raise RecordError(f"{where}: expected a text or a number as 'id', got {type(identifier).__name__}")
    said: list[Any] = []
    turns = tuple(
        _turn(turn, place, where, said) for place, turn in enumerate(_conversation(value, where, answered))
    )
    image = _image(value, said, where, images)
    _require_placeholders(turns, image, where)
    return LlavaRecord(index=index, id=str(identifier), image=image, turns=turns)


def conversation_tokens(
    record: LlavaRecord, tokenizer: Tokenizer, style: PromptStyle, *, max_length: int | None = None
) -> tuple[list[int], list[int]]:
    """The text tokens of a conversation, and what is learned of them.

    As in the released code (FinetuneDataset of Cobra and EMMA): each turn is tokenized by itself; the labels
    are the ids of the gpt turns, their closing <|endoftext|> included, and IGNORE on human turns. Labels are
    not shifted; the loss does that.

    Args:
        record: a valid record.
        tokenizer: the model's tokenizer.
        style: the model's prompt style.
        max_length: cut after this many tokens (the model's llm_max_length); None never cuts.

    Returns:
        (input_ids, labels), of equal length, the image tokens not among them.
    """
    input_ids: list[int] = []
    labels: list[int] = []
    for index, turn in enumerate(record.turns):
        ids = tokenizer.encode(wrap_turn(turn, index, style))
        input_ids += ids
        labels += ids if turn.role == "gpt" else [IGNORE] * len(ids)
    return input_ids[:max_length], labels[:max_length]


def _conversation(value: dict[str, Any], where: str, answered: bool) -> list[Any]:
    given = [name for name in ("conversations", "messages") if value.get(name) is not None]
    if len(given) > 1:
        raise RecordError(f"{where}: expected 'conversations' or 'messages', got both")
    found = value[given[0]] if given else None
    if not isinstance(found, list):
        came = "nothing" if found is None else type(found).__name__
        raise RecordError(f"{where}: expected a list of turns as 'conversations', got {came}")
    if len(found) < 1 + answered:
        wanted = "a question and an answer" if answered else "a question"
        raise RecordError(f"{where}: expected {wanted}, got {len(found)} turn(s)")
    return found


def _turn(turn: Any, place: int, where: str, said: list[Any]) -> Turn:
    """One turn; what its parts name as images is added to `said`."""
    where = f"{where}, turn {place}"
    keys = [pair for pair in _KEYS if isinstance(turn, dict) and pair[0] in turn and pair[1] in turn]
    if not keys:
        raise RecordError(
            f"{where}: expected an object with 'from' and 'value' (or 'role' and 'content'), got {turn!r:.80}"
        )
    expected = "gpt" if place % 2 else "human"
    speaker, spoken = keys[0]
    who, text = turn[speaker], turn[spoken]
    if not isinstance(who, str) or ROLES.get(who) != expected:
        raise RecordError(
            f"{where}: expected it from {expected!r}, got {who!r:.40}: turns alternate, human first"
        )
    if isinstance(text, list):
        text = "\n".join(_part(part, where, said) for part in text)
    if not isinstance(text, str):
        raise RecordError(f"{where}: expected a text as {spoken!r}, got {type(text).__name__}")
    if len(text) > LONGEST_TEXT:
        raise RecordError(f"{where}: expected at most {LONGEST_TEXT:,} characters, got {len(text):,}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RecordError(f"{where}: the text holds half a character (a lone surrogate)") from None
    return Turn(role=expected, text=text)


def _part(part: Any, where: str, said: list[Any]) -> str:
    """The text of one part of a turn, the placeholder for an image."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return part["text"]
    if kind not in ("image", "image_url"):
        raise RecordError(f"{where}: expected parts of the type 'text' or 'image', got {part!r:.80}")
    named = part.get(kind)
    if isinstance(named, dict):
        named = named.get("url")
    if named is not None:
        said.append(named)
    return PLACEHOLDER


def _image(value: dict[str, Any], said: list[Any], where: str, images: Path | None) -> str | None:
    """The image of a record, from the keys of the record or the parts of its turns."""
    named = [_listed(value.get(key)) for key in ("image", "images")] + [said]
    given = [each for each in named if each]
    if any(each != given[0] for each in given):
        raise RecordError(f"{where}: names its image in several places, and not the same: {given!r:.120}")
    if not given:
        lost = [key for key in value if key.lower() in MEDIA and value[key] not in (None, [], {}, "")]
        if lost:
            raise RecordError(f"{where}: expected its image as 'image', got {lost[0]!r}")
        return None
    if len(given[0]) > 1:
        raise RecordError(f"{where}: expected one image, got {len(given[0])}; these models see one at a time")
    return image_name(given[0][0], where=where, folder=images)


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _require_placeholders(turns: tuple[Turn, ...], image: str | None, where: str) -> None:
    """Refuse a text that asks for another number of images than there are. It need not ask: images come first."""
    asked = sum(turn.text.count(PLACEHOLDER) for turn in turns)
    if asked and image is None:
        raise RecordError(f"{where}: its text asks for an image ({PLACEHOLDER}), and the record names none")
    if asked > 1:
        raise RecordError(
            f"{where}: its text asks for {asked} images ({PLACEHOLDER}), and the record has one"
        )
    if any(PLACEHOLDER in turn.text for turn in turns if turn.role == "gpt"):
        raise RecordError(f"{where}: {PLACEHOLDER} stands in an answer; expected it in a question")
