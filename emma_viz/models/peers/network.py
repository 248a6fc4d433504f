"""A vision-language model that transformers' own classes run, as recording, lenses and figures need it.

Everything that differs from family to family is asked of its `Peer`. Samples go through the model one at a time: their
sequences are of different lengths, and what pads them is the model's affair.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from emma_viz.data.tiles import TileGeometry
from emma_viz.errors import CheckpointError, InputError
from emma_viz.models.peers.peer import Arrangement, Peer, PeerSettings

_KINDS = ("mm_token_type_ids", "token_type_ids")
"""Arguments that say of each token whether it is the image's."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PeerInputs:
    """What a model reads of one image and one message."""

    given: dict[str, Tensor]
    """Arguments of its forward pass, one sample each."""
    image: Tensor
    """Positions of the image's tokens in the sequence, in the order of its geometry; empty without an image."""
    text: Tensor
    """Positions of all others."""

    def followed_by(self, ids: Sequence[int], *, kind: int) -> "PeerInputs":
        """The same with the tokens of an answer behind it, which the model's class calls `kind`."""
        more = torch.tensor([list(ids)], dtype=torch.long, device=self.given["input_ids"].device)
        behind = {
            "input_ids": more,
            "attention_mask": torch.ones_like(more),
            **dict.fromkeys(_KINDS, torch.full_like(more, kind)),
        }
        given = {
            name: torch.cat([value, behind[name]], dim=1) if name in behind else value
            for name, value in self.given.items()
        }
        end = int(self.given["input_ids"].shape[1])
        return PeerInputs(
            given=given, image=self.image, text=torch.cat([self.text, torch.arange(end, end + len(ids))])
        )

    @property
    def text_ids(self) -> tuple[int, ...]:
        """The ids of all tokens that are not the image's."""
        return tuple(self.given["input_ids"][0, self.text].tolist())


@dataclass(frozen=True, kw_only=True, eq=False)
class PeerNetwork:
    """The model, its tokenizer and its image processor, all of transformers."""

    network: nn.Module
    """In evaluation mode."""
    words: Any
    """transformers' tokenizer."""
    settings: PeerSettings
    """Its configuration and image processor."""
    family: Peer

    size = 0
    """Views have no side of their own, as those of this package's encoders do: it depends on the image."""

    @property
    def device(self) -> torch.device:
        """Where the language model is."""
        return self._embedding.device

    @property
    def _embedding(self) -> Tensor:
        return self.network.get_input_embeddings().weight  # ty: ignore[not-callable]

    @cached_property
    def image_id(self) -> int:
        """The id that stands for an image's tokens in a prompt.

        Raises:
            CheckpointError: the configuration names none, or the tokenizer has no token of it.
        """
        config = self.settings.config
        found = next(
            (
                value
                for name in ("image_token_id", "image_token_index")
                if (value := getattr(config, name, None))
            ),
            None,
        )
        if found is None or self.words.convert_ids_to_tokens(found) is None:
            raise CheckpointError(
                f"expected a config.json whose image_token_id is a token of the tokenizer, got {found}"
            )
        return int(found)

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The tokens that end an answer."""
        ends = getattr(getattr(self.network, "generation_config", None), "eos_token_id", None)
        ends = self.words.eos_token_id if ends is None else ends
        return tuple(ends) if isinstance(ends, list | tuple) else () if ends is None else (int(ends),)

    def arrange(self, image: Image.Image) -> Arrangement:
        """Where the tokens of an image lie, over it and in the sequence."""
        return self.family.arrange(image.size, self.settings)

    def geometry(self, image: Image.Image) -> TileGeometry:
        """Where the tokens of an image lie over it."""
        return self.arrange(image).geometry

    def view(self, image: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
        """What the tokens of the finest grid see of an image, before the normalisation."""
        return self.geometry(image).view(image)

    def prompt(self, message: str) -> str:
        """The text for a message, with the family's marker where the image stands.

        The checkpoint's own chat template writes it, where it has one; otherwise it is the family's plain form.
        """
        if not self.words.chat_template:
            return self.family.plain.replace("{image}", self._marker).replace("{message}", message)
        turn = _turn("user", {"type": "image"}, _text(message))
        return self.words.apply_chat_template([turn], tokenize=False, add_generation_prompt=True)

    def first_id(self, word: str) -> int:
        """The id that an answer begins with which begins with a word, such as "Yes".

        The checkpoint's own chat template says what stands between a prompt and its answer; in a plain form that is a
        space, or nothing where the form ends a line.
        """
        prompt = self.prompt("?")
        if self.words.chat_template:
            turns = [_turn("user", {"type": "image"}, _text("?")), _turn("assistant", _text(word))]
            whole = self.words.apply_chat_template(turns, tokenize=False)
        else:
            whole = prompt + ("" if prompt[-1].isspace() else " ") + word
        before, after = (self.words(text, add_special_tokens=False)["input_ids"] for text in (prompt, whole))
        same = next(
            (at for at, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]),
            len(before),
        )
        return after[same]

    @property
    def _marker(self) -> str:
        return self.family.marker or self.words.convert_ids_to_tokens(self.image_id)

    def inputs(self, image: Image.Image | None, message: str) -> PeerInputs:
        """What the model reads of an image and a message.

        Raises:
            CheckpointError: the prompt has no place for the image, or the tokenizer no token for it.
        """
        text, given, order = self.prompt(message), {}, np.zeros(0, np.int64)
        if image is None:
            text = text.replace(f"{self._marker}\n", "").replace(self._marker, "")
        else:
            arrangement = self.arrange(image)
            order, token = arrangement.order, self.words.convert_ids_to_tokens(self.image_id)
            if text.count(self._marker) != 1:
                raise CheckpointError(
                    f"expected a chat template that writes {self._marker!r} once, got {text[:200]!r}"
                )
            text = text.replace(self._marker, self.family.written(arrangement, token))
            given = self._pixels(image)
        begins = self.words.bos_token is not None and self.words.bos_token in text
        ids = self.words(text, add_special_tokens=not begins, return_tensors="pt")["input_ids"]
        is_image = ids[0] == self.image_id
        places = is_image.nonzero().flatten()
        if len(places) != len(order):
            raise CheckpointError(
                f"expected {len(order)} image tokens in the prompt, got {len(places)}; is the tokenizer this model's?"
            )
        text_kind, image_kind, _ = self.family.kinds
        kinds = torch.where(is_image, image_kind, text_kind)[None]
        asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **given, **self._kinds(kinds)}
        return PeerInputs(
            given={name: self._placed(value) for name, value in asked.items()},
            image=places[torch.from_numpy(order)],
            text=(~is_image).nonzero().flatten(),
        )

    def _pixels(self, image: Image.Image) -> dict[str, Tensor]:
        """The image as the model's forward pass takes it."""
        made = self.settings.processor(images=[image], return_tensors="pt")
        return {name: value for name, value in made.items() if name in self._takes}

    @cached_property
    def _takes(self) -> frozenset[str]:
        import inspect

        return frozenset(inspect.signature(self.network.forward).parameters)

    def _kinds(self, kinds: Tensor) -> dict[str, Tensor]:
        return {name: kinds for name in _KINDS if name in self._takes}

    def _placed(self, value: Tensor) -> Tensor:
        dtype = self._embedding.dtype if value.is_floating_point() else value.dtype
        return value.to(self.device, dtype)

    @torch.no_grad()
    def read(self, inputs: PeerInputs) -> None:
        """Run the model over a prompt, for its hooks."""
        self.network(**inputs.given, logits_to_keep=1)

    @torch.no_grad()
    def answer(
        self,
        inputs: PeerInputs,
        *,
        max_new_tokens: int,
        temperature: float,
        top_p: float,
        seed: int | None,
        on_token: Callable[[int], None] | None = None,
        on_first: Callable[[Float[Tensor, " V"]], None] | None = None,
        forced: bool = False,
    ) -> tuple[tuple[int, ...], bool]:
        """Answer one prompt; the ids without the end token, and whether the answer ended by itself.

        What is said here of drawing holds whatever the checkpoint's generation_config.json says of it; the rest of that
        file, such as a repetition penalty, holds as in transformers' `generate`.

        Args:
            inputs: the prompt.
            max_new_tokens: of the longest answer.
            temperature: 0 answers greedily.
            top_p: draw from the likeliest tokens that make up this probability.
            seed: of the draws.
            on_token: called with each id as it comes.
            on_first: called with the scores of the answer's first token, as the model gives them.
            forced: never stop early (for timing).

        Raises:
            InputError: a setting is out of range.
        """
        from transformers import GenerationConfig

        if temperature < 0 or not 0 < top_p <= 1:
            raise InputError(f"expected temperature ≥ 0 and 0 < top_p ≤ 1, got {temperature} and {top_p}.")
        ends = self.end_ids
        # What is not given here, transformers takes from the checkpoint's generation_config.json.
        config = GenerationConfig(
            max_new_tokens=max_new_tokens,
            min_new_tokens=max_new_tokens if forced else None,
            eos_token_id=list(ends) or None,
            pad_token_id=ends[0] if ends else 0,
            num_beams=1,
            do_sample=temperature > 0,
            temperature=temperature or 1.0,
            top_p=top_p if temperature else 1.0,
            top_k=0 if temperature else 50,  # that of transformers, which greedy decoding does not read
        )
        listener = _Listener(on_token, ends)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            if seed is not None:
                torch.manual_seed(seed)
            with self._heard(on_first):
                self.network.generate(**inputs.given, generation_config=config, streamer=listener)  # ty: ignore[not-callable]
        return tuple(listener.ids), listener.ended

    @contextmanager
    def _heard(self, on_first: Callable[[Tensor], None] | None) -> Generator[None]:
        """While an answer begins: the scores of its first token are heard, before transformers changes any."""
        if on_first is None:
            yield
            return

        def hear(module: nn.Module, given: Any, out: Any) -> None:
            hook.remove()
            on_first(out.logits[0, -1])

        hook = self.network.register_forward_hook(hear)
        try:
            yield
        finally:
            hook.remove()


def _turn(role: str, *content: dict[str, str]) -> dict[str, Any]:
    return {"role": role, "content": list(content)}


def _text(said: str) -> dict[str, str]:
    return {"type": "text", "text": said}


class _Listener:
    """Hears the tokens of one answer as transformers' `generate` chooses them; its streamers look like this."""

    def __init__(self, on_token: Callable[[int], None] | None, ends: tuple[int, ...]):
        self.ids: list[int] = []
        self.ended = False
        self._prompt, self._on_token, self._ends = True, on_token, ends

    def put(self, value: Tensor) -> None:
        """The prompt first, then one token a call."""
        if self._prompt:
            self._prompt = False
            return
        token = int(value.flatten()[0])
        self.ended = token in self._ends
        if not self.ended:
            self.ids.append(token)
            if self._on_token is not None:
                self._on_token(token)

    def end(self) -> None:
        """No token comes any more."""
