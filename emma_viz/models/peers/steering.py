"""What of a checkpoint's generation_config.json decides its answers: a named few settings, which are said of them."""

from collections.abc import Mapping
from typing import Any

from emma_viz.errors import CheckpointError

_NONE: Mapping[str, Any] = {
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "bad_words_ids": None,
}
"""The settings, and what they are where they change nothing."""


def steering(config: Any) -> dict[str, Any]:
    """The settings of a GenerationConfig that change its answers, whatever the drawing.

    Raises:
        CheckpointError: one is of another type or out of its range.
    """
    found = {name: getattr(config, name, None) for name in _NONE}
    changed = {name: value for name, value in found.items() if value not in (None, _NONE[name], [])}
    for name, value in changed.items():
        if not _fits(name, value):
            raise CheckpointError(f"generation_config.json: {name} cannot be {str(value)[:100]!r}.")
    return changed


def _fits(name: str, value: Any) -> bool:
    if name == "repetition_penalty":
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
    if name == "no_repeat_ngram_size":
        return isinstance(value, int) and value > 0
    ids = (
        value
        if name != "bad_words_ids"
        else [each for row in value for each in row]
        if _rows(value)
        else None
    )
    return isinstance(ids, list) and all(isinstance(each, int) and each >= 0 for each in ids)


def _rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, list) and row for row in value)


def only_steering(config: Any) -> Any:
    """A GenerationConfig of the settings above and of the special tokens alone.

    How long an answer is and how it is drawn is said by who asks; beams, time limits, minimal lengths, stop strings and
    forced tokens of the file change nothing.

    Raises:
        CheckpointError: as `steering`.
    """
    from transformers import GenerationConfig

    ends = {name: getattr(config, name, None) for name in ("eos_token_id", "pad_token_id", "bos_token_id")}
    return GenerationConfig(**ends, **steering(config))


def steering_notes(config: Any) -> str:
    """The settings in words, for pictures; empty for none."""
    found = steering(config)
    parts = [
        f"{name} {value:g}" if isinstance(value, int | float) else f"{name} of {len(value)}"
        for name, value in found.items()
    ]
    return f"answers under the checkpoint's own {', '.join(parts)} (generation_config.json)" if parts else ""
