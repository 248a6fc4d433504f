"""What a model of transformers reads of a message: its chat template, or its family's plain form, as token ids."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from emma_viz.data.prompts import PLACEHOLDER
from emma_viz.errors import CheckpointError
from emma_viz.models.peers.calls import translated
from emma_viz.models.peers.templates import TEMPLATES

_LONGEST = 5.0
"""Seconds that a chat template may take; one of a released model takes thousandths."""
_LITERAL = "\ue000"
"""Stands for a special token's name in a message, where there are only characters: of Unicode's private use."""
PLAIN_NOTE = "the checkpoint has no chat template: the prompt is its family's plain form"


@dataclass(frozen=True, kw_only=True)
class PeerPrompt:
    """The text of one prompt."""

    text: str
    """With a private character for each of `literals`."""
    literals: tuple[str, ...]
    """Names of special tokens that the message holds; they are read as text."""

    @property
    def said(self) -> str:
        """The text as people read it."""
        literals = iter(self.literals)
        return re.sub(_LITERAL, lambda _: next(literals, ""), self.text)

    def with_image(self, marker: str, written: str) -> "PeerPrompt":
        """With what stands for an image's tokens in place of the marker.

        Raises:
            CheckpointError: the marker does not stand there once.
        """
        if self.text.count(marker) != 1:
            raise CheckpointError(
                f"expected a chat template that writes {marker!r} once, got {self.said[:200]!r}"
            )
        return PeerPrompt(text=self.text.replace(marker, written), literals=self.literals)


@dataclass(frozen=True, kw_only=True)
class PeerPrompts:
    """Writes and reads the prompts of one model."""

    words: Any
    """transformers' tokenizer."""
    marker: str
    """What stands for an image."""
    image_token: str
    """What stands for one of its tokens."""
    plain: str
    """The prompt of a checkpoint without a chat template, with {image}, {bos} and {message} in it."""

    def of(self, message: str, *, image: bool) -> PeerPrompt:
        """The prompt for a message.

        What stands for an image is taken out of the message, as `emma_viz.data.prompts` does it.

        Raises:
            CheckpointError: the chat template fails, takes too long, or does not take such messages.
        """
        for each in (self.marker, self.image_token, PLACEHOLDER, _LITERAL):
            message = message.replace(each, "")
        literals = tuple(self._special.findall(message)) if self._special else ()
        said = self._special.sub(_LITERAL, message) if self._special else message
        if not self.words.chat_template:
            return PeerPrompt(text=self._plain(said, image=image), literals=literals)
        shown = [{"type": "image"}] if image else []
        text = self._rendered([_turn("user", *shown, _text(said))], add_generation_prompt=True)
        if text.count(_LITERAL) != len(literals):
            raise CheckpointError(f"expected a chat template that writes a message once, got {text[:200]!r}")
        return PeerPrompt(text=text, literals=literals)

    def ids(self, prompt: PeerPrompt) -> list[int]:
        """The token ids of a prompt; a special token's name in a message is read letter by letter."""
        begins = self.words.bos_token is not None and self.words.bos_token in prompt.text
        with translated(CheckpointError, "the tokenizer cannot read the prompt"):
            first, *parts = prompt.text.split(_LITERAL)
            ids = list(self.words(first, add_special_tokens=not begins)["input_ids"])
            for literal, part in zip(prompt.literals, parts, strict=True):
                ids += self.words(literal, add_special_tokens=False, split_special_tokens=True)["input_ids"]
                ids += self.words(part, add_special_tokens=False)["input_ids"]
        return ids

    def first_id(self, word: str) -> int:
        """The id that an answer begins with which begins with a word, such as "Yes".

        The checkpoint's own chat template says what stands between a prompt and its answer; in a plain form that is a
        space, or nothing where the form ends a line.
        """
        prompt = self.of("?", image=True).text
        if self.words.chat_template:
            turns = [_turn("user", {"type": "image"}, _text("?")), _turn("assistant", _text(word))]
            whole = self._rendered(turns)
        else:
            whole = prompt + ("" if prompt[-1].isspace() else " ") + word
        before, after = (self.words(text, add_special_tokens=False)["input_ids"] for text in (prompt, whole))
        same = next(
            (at for at, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]),
            len(before),
        )
        return after[same]

    def _plain(self, message: str, *, image: bool) -> str:
        form = self.plain if image else self.plain.replace("{image}\n", "").replace("{image}", "")
        begun = form.replace("{image}", self.marker).replace("{bos}", self.words.bos_token or "")
        return begun.replace("{message}", message)

    def _rendered(self, turns: list[dict[str, Any]], **options: Any) -> str:
        """What the chat template writes, as `apply_chat_template` has it, in bounded time and memory."""
        said = (
            "the checkpoint's chat template cannot be used: expected one that takes messages of an image and a text, "
            "as those of vision-language models do"
        )
        with translated(CheckpointError, said):
            template, names = self.words.get_chat_template(), self.words.special_tokens_map
            return TEMPLATES.render(template, turns, seconds=_LONGEST, options={**names, **options})

    @cached_property
    def _special(self) -> re.Pattern[str] | None:
        """The names of all special tokens, the longest first."""
        added = (each.content for each in self.words.added_tokens_decoder.values() if each.special)
        names = {*self.words.all_special_tokens, *added}
        return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True)))) if names else None


def _turn(role: str, *content: dict[str, str]) -> dict[str, Any]:
    return {"role": role, "content": list(content)}


def _text(said: str) -> dict[str, str]:
    return {"type": "text", "text": said}
