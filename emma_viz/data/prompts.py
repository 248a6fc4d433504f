"""The prompts of the released models, to the character.

Source: the prompt builders of Cobra, EMMA, LLaVA-1.5 (`vicuna_v1`), TinyLLaVA (`phi`) and InternVL (`internlm2-chat`).
The image is no part of the text: its tokens come first, or after what `lead` says, with no placeholder, so a `<image>`
in a message is taken out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from emma_viz.data.tokenizer import Tokenizer
from emma_viz.errors import InputError

PromptStyle = Literal["zephyr", "in-out", "vicuna", "tinyllava", "internlm2"]
"""zephyr: Cobra and EMMA-V1 (chat-tuned Mamba); in-out: the other Mamba models, EMMA-V2 among them; vicuna: LLaVA-1.5
and what is built on it; tinyllava: the same words with the end token of Phi-2; internlm2: InternVL's with
InternLM2, and mmMamba."""

PROMPT_STYLES: tuple[str, ...] = get_args(PromptStyle)

EOS = "<|endoftext|>"
"""Closes every answer, and in the zephyr style every question."""

PLACEHOLDER = "<image>"
"""Stands for the image in LLaVA data; never shown to the model."""

_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions. "
)
_INTERN_SYSTEM = (
    "\u4f60\u662f\u7531\u4e0a\u6d77\u4eba\u5de5\u667a\u80fd\u5b9e\u9a8c\u5ba4\u8054\u5408\u5546\u6c64\u79d1\u6280"
    "\u5f00\u53d1\u7684\u4e66\u751f\u591a\u6a21\u6001\u5927\u6a21\u578b\uff0c\u82f1\u6587\u540d\u53ebInternVL, "
    "\u662f\u4e00\u4e2a\u6709\u7528\u65e0\u5bb3\u7684\u4eba\u5de5\u667a\u80fd\u52a9\u624b\u3002"
)
"""InternVL's, in Chinese: a multimodal model of Shanghai AI Laboratory and SenseTime, useful and harmless."""
_TURN, _TURN_ENDS = "<|im_start|>", "<|im_end|>"
_LEADS: dict[str, str] = {
    "vicuna": f"{_SYSTEM}USER: ",
    "tinyllava": f"{_SYSTEM}USER: ",
    "internlm2": f"{_TURN}system\n{_INTERN_SYSTEM}{_TURN_ENDS}{_TURN}user\n<img>",
}
"""What styles put before the image."""
_ENDS: dict[str, str] = {"vicuna": "</s>"}
"""What closes an answer where it is not EOS."""


def lead(style: PromptStyle) -> str:
    """The text that stands before the image and everything else; empty where the image comes first."""
    return _LEADS.get(style, "")


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One message of a conversation."""

    role: Literal["human", "gpt"]
    text: str


def prompt_style(identifier: str) -> PromptStyle:
    """The style of a language model, by its official id (`mamba-2.8b-zephyr`, `mamba-2.7b-v2`, …).

    Raises:
        InputError: the id is none the released code knows a style for.
    """
    if identifier.endswith("zephyr"):
        return "zephyr"
    if identifier.startswith(("mamba", "v2")):
        return "in-out"
    raise InputError(
        f"no prompt style is known for the language model {identifier!r}: expected an id that ends in "
        f"'zephyr' or begins with 'mamba'; or name a style: {', '.join(PROMPT_STYLES)}"
    )


def wrap_turn(turn: Turn, index: int, style: PromptStyle) -> str:
    """What one turn adds to the text.

    Args:
        turn: human turns have an even index, gpt turns an odd one.
        index: the turn's place in the conversation, from 0.
        style: the model's prompt style.

    Raises:
        InputError: the turn comes out of order, or the style is unknown.
    """
    expected = "gpt" if index % 2 else "human"
    if turn.role != expected:
        raise InputError(
            f"turn {index} is from {turn.role!r}: turns alternate, and this one must be {expected!r}"
        )
    if style not in PROMPT_STYLES:
        raise InputError(f"unknown prompt style {style!r}: expected one of {', '.join(PROMPT_STYLES)}")
    text = turn.text.replace(PLACEHOLDER, "").strip()
    if style == "internlm2":
        if turn.role == "gpt":
            return f"{text}{_TURN_ENDS}"
        begin = f"{_TURN}user\n" if index else "</img>\n"
        return f"{begin}{text}{_TURN_ENDS}{_TURN}assistant\n"
    if style in _LEADS:
        if turn.role == "gpt":
            return f" {text}{_ENDS.get(style, EOS)}"
        return f"{'USER: ' if index else chr(10)}{text} ASSISTANT:"
    if turn.role == "gpt":
        return f"{text or ' '}{EOS}"
    separator = "\n" if index else ""
    if style == "zephyr":
        return f"{separator}<|user|>\n{text}{EOS}\n<|assistant|>\n"
    return f"{separator}In: {text}\nOut: "


def build_prompt(message: str | Sequence[Turn], style: PromptStyle) -> str:
    """The text that stands before an answer.

    Args:
        message: one question, or the conversation so far, which begins and ends with a human turn.
        style: the model's prompt style.

    Raises:
        InputError: the turns do not alternate, or there is no question to answer.

    Examples:
        >>> build_prompt("What is this?", "in-out")
        'In: What is this?\\nOut: '
    """
    turns = [Turn(role="human", text=message)] if isinstance(message, str) else list(message)
    if len(turns) % 2 == 0:
        raise InputError("a prompt must end with a human turn: the model answers it")
    return "".join(wrap_turn(turn, index, style) for index, turn in enumerate(turns))


def answer_ids(tokenizer: Tokenizer, prompt: str, answer: str) -> list[int]:
    """The ids of an answer behind a prompt that was read before it, the end token left out.

    As `wrap_turn` writes it: after a space, or at once where the prompt ends, or the answer begins, with white space.

    Args:
        tokenizer: of the model that reads the prompt.
        prompt: from `build_prompt`, or `LoadedModel.prompt`.
        answer: its text; an empty one has no ids.
    """
    if not answer:
        return []
    apart = "" if prompt[-1:].isspace() or answer[0].isspace() else " "
    before, whole = tokenizer.encode(prompt), tokenizer.encode(prompt + apart + answer)
    if whole[: len(before)] == before:
        return whole[len(before) :]
    # One token would hold the prompt's end and the answer's begin ("Out: " and "Yes"); the model has read the first.
    return tokenizer.encode(apart + answer)


def first_id(tokenizer: Tokenizer, prompt: str, word: str) -> int:
    """The id that an answer begins with which begins with a word, such as "Yes".

    A token of white space alone is none: it would begin all words.

    Args:
        tokenizer: of the model that reads the prompt.
        prompt: as in `answer_ids`.
        word: as it stands in a sentence.

    Raises:
        InputError: the word is empty.
    """
    for each in answer_ids(tokenizer, prompt, word):
        if tokenizer.decode([each], skip_special=False).strip():
            return each
    raise InputError(f"expected a word to begin an answer with, got {word!r}.")
