"""Data sets in LLaVA's JSON form, read one record at a time.

A data set is a JSON array (LLaVA-v1.5-mix-665K and its kin), or one object a line (JSONL):

    {"id": "…", "image": "coco/….jpg", "conversations": [{"from": "human", "value": "<image>\\n…"},
                                                         {"from": "gpt", "value": "…"}, …]}

Text-only records have no "image". Other keys are left alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emma_viz.data.json_spans import spans
from emma_viz.data.prompts import PromptStyle, Turn, wrap_turn
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.errors import RecordError

IGNORE = -100
"""The label of tokens that are not trained on."""


@dataclass(frozen=True, kw_only=True)
class LlavaRecord:
    """One conversation, about one image or none."""

    index: int
    """Its place in the file, from 0."""
    id: str
    """Its "id"; its place in the file when it has none."""
    image: str | None
    """Path of the image, relative to the data set's image folder; None for a text-only record."""
    turns: tuple[Turn, ...]
    """Human and gpt turns in alternation; the first is human, and at least one is gpt."""


def read_records(
    path: str | Path, *, on_error: Callable[[RecordError], None] | None = None
) -> Iterator[LlavaRecord]:
    """Read a data set record by record; the file is never in memory as a whole.

    Args:
        path: a JSON array or JSONL file, in UTF-8.
        on_error: called with each record's error, which is then left out; None raises the first one.
            Broken JSON in an array always raises, as what follows cannot be told apart.

    Yields:
        the records that are valid.

    Raises:
        RecordError: the file cannot be read, or a record cannot be used; names the record and what is wrong.
    """
    for span in spans(Path(path)):
        try:
            record = parse_record(span.value, span.index)
        except RecordError as error:
            if on_error is None:
                raise
            on_error(error)
        else:
            yield record


def parse_record(value: Any, index: int) -> LlavaRecord:
    """Check one record.

    Args:
        value: what the JSON holds.
        index: the record's place in the file, from 0.

    Raises:
        RecordError: names the record and what is wrong with it.
    """
    where = f"record {index}"
    if not isinstance(value, dict):
        raise RecordError(f"{where}: expected an object with 'conversations', got {type(value).__name__}")
    identifier = value.get("id", index)
    if isinstance(identifier, str | int):
        where = f"record {index} (id {identifier!r})"
    else:
        raise RecordError(f"{where}: expected a text or a number as 'id', got {type(identifier).__name__}")
    image = value.get("image")
    if image is not None and (not isinstance(image, str) or not image.strip()):
        raise RecordError(
            f"{where}: expected the path of an image as 'image', got {image!r}; leave it out for text"
        )
    conversation = value.get("conversations")
    if not isinstance(conversation, list):
        came = "nothing" if conversation is None else type(conversation).__name__
        raise RecordError(f"{where}: expected a list of turns as 'conversations', got {came}")
    if len(conversation) < 2:
        raise RecordError(f"{where}: expected a question and an answer, got {len(conversation)} turn(s)")
    turns = tuple(_parse_turn(turn, place, where) for place, turn in enumerate(conversation))
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


def _parse_turn(turn: Any, place: int, where: str) -> Turn:
    where = f"{where}, turn {place}"
    if not isinstance(turn, dict) or "from" not in turn or "value" not in turn:
        raise RecordError(f"{where}: expected an object with 'from' and 'value', got {turn!r:.80}")
    expected = "gpt" if place % 2 else "human"
    if turn["from"] != expected:
        raise RecordError(
            f"{where}: expected it from {expected!r}, got {turn['from']!r:.40}: turns alternate, human first"
        )
    if not isinstance(turn["value"], str):
        raise RecordError(f"{where}: expected a text as 'value', got {type(turn['value']).__name__}")
    return Turn(role=expected, text=turn["value"])
