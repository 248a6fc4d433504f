"""A vision-language model that transformers' own classes run, as recording, lenses and figures need it.

Everything that differs from family to family is asked of its `Peer`. Samples that only are read go through the model
together where all that they are made of has one shape; otherwise, and to be answered, one at a time: their sequences
are of different lengths, and what pads them is the model's affair.
"""

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from emma_viz.data.tiles import TileGeometry
from emma_viz.errors import CheckpointError, ImageError, InputError
from emma_viz.models.peers.calls import translated
from emma_viz.models.peers.peer import Arrangement, Peer, PeerSettings, tiles_in_place
from emma_viz.models.peers.prompts import PLAIN_NOTE, PeerPrompts
from emma_viz.models.peers.steering import steering_notes

_KINDS = ("mm_token_type_ids", "token_type_ids")
"""Arguments that say of each token whether it is the image's."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PeerInputs:
    """What a model reads of one image and one message, or of several of the same shape."""

    given: dict[str, Tensor]
    """Arguments of its forward pass, sample after sample."""
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
    def shapes(self) -> tuple[Any, ...]:
        """What inputs must share to be read at once: the shapes of all, and where the image's tokens stand."""
        shapes = {name: tuple(value.shape) for name, value in self.given.items()}
        return tuple(sorted(shapes.items())), tuple(self.image.tolist())

    @classmethod
    def together(cls, some: Sequence["PeerInputs"]) -> "PeerInputs":
        """Several of one shape as a batch, whose positions are those of each."""
        given = {name: torch.cat([each.given[name] for each in some]) for name in some[0].given}
        return cls(given=given, image=some[0].image, text=some[0].text)

    @property
    def text_ids(self) -> tuple[int, ...]:
        """The ids of all tokens that are not the image's."""
        return tuple(self.given["input_ids"][0, self.text].tolist())


@dataclass(frozen=True, kw_only=True, eq=False)
class PeerImages:
    """Where the tokens of a model's images lie, which is known without its weights."""

    settings: PeerSettings
    """Its configuration and image processor."""
    family: Peer
    part: Literal["thumbnail"] | None = None
    """Which tokens are drawn where an image becomes tiles and a thumbnail; None: the tiles'."""

    def arrange(self, image: Image.Image) -> Arrangement:
        """Where the tokens of an image lie, over it and in the sequence.

        Raises:
            ImageError: it cannot be prepared as the checkpoint says.
        """
        with self._preparing(image):
            found = self.family.arrange(image.size, self.settings)
            return found.thumbnail if self.part else found

    def geometry(self, image: Image.Image) -> TileGeometry:
        """Where the tokens of an image lie over it."""
        return self.arrange(image).geometry

    def _preparing(self, image: Image.Image) -> AbstractContextManager[None]:
        """What transformers cannot do with an image, as an error of ours."""
        return translated(
            ImageError,
            f"the image of {image.width}×{image.height} pixels cannot be prepared for this model; crop or resize it",
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class PeerNetwork(PeerImages):
    """The model, its tokenizer and its image processor, all of transformers."""

    network: nn.Module
    """In evaluation mode."""
    words: Any
    """transformers' tokenizer."""

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

    def view(self, image: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
        """What the tokens that are drawn see of an image: the processor's own pixels, the normalisation undone.

        Raises:
            ImageError: it cannot be prepared as the checkpoint says.
        """
        arrangement, processor = self.arrange(image), self.settings.processor
        with self._preparing(image):
            pixels = self._canvas(self._pixels(image), arrangement).astype(np.float64)
            if processor.do_normalize:
                pixels = pixels * np.asarray(processor.image_std) + np.asarray(processor.image_mean)
            if processor.do_rescale:
                pixels = pixels / processor.rescale_factor
            seen = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
        return arrangement.geometry.seen(seen)

    def _canvas(self, pixels: dict[str, np.ndarray], arrangement: Arrangement) -> np.ndarray:
        """What the processor made of an image, laid out as the tokens that are drawn lie."""
        if self.part is None or len(arrangement.geometry.grids) == 1:
            return self.family.canvas(pixels, arrangement, self.settings)
        # The processor gives the tiles and the thumbnail in the order in which their tokens stand.
        first = 0 if arrangement.order[0] == 0 else math.prod(arrangement.tiles)
        return tiles_in_place(pixels, (1, 1), first=first)

    @cached_property
    def prompts(self) -> PeerPrompts:
        """Writes and reads its prompts."""
        token = self.words.convert_ids_to_tokens(self.image_id)
        return PeerPrompts(
            words=self.words,
            marker=self.family.marker or token,
            image_token=token,
            plain=self.family.plain,
        )

    def prompt(self, message: str) -> str:
        """The text for a message, with the family's marker where the image stands.

        The checkpoint's own chat template writes it, where it has one; otherwise it is the family's plain form.
        """
        return self.prompts.of(message, image=True).said

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of its pictures and answers should know."""
        plain = "" if self.words.chat_template else PLAIN_NOTE
        said = steering_notes(getattr(self.network, "generation_config", None))
        return tuple(each for each in (self.family.note, plain, said) if each)

    def first_id(self, word: str) -> int:
        """The id that an answer begins with which begins with a word, such as "Yes"."""
        return self.prompts.first_id(word)

    def inputs(self, image: Image.Image | None, message: str) -> PeerInputs:
        """What the model reads of an image and a message.

        Raises:
            CheckpointError: the prompt has no place for the image, or the tokenizer no token for it.
            ImageError: the image cannot be prepared as the checkpoint says.
        """
        prompt, given, order = self.prompts.of(message, image=image is not None), {}, np.zeros(0, np.int64)
        if image is not None:
            arrangement = self.arrange(image)
            order = arrangement.order
            written = self.family.written(arrangement, self.prompts.image_token)
            prompt = prompt.with_image(self.prompts.marker, written)
            made = {name: torch.from_numpy(each) for name, each in self._pixels(image).items()}
            given = {name: value for name, value in made.items() if name in self._takes}
        ids = torch.tensor([self.prompts.ids(prompt)], dtype=torch.long)
        is_image = ids[0] == self.image_id
        places = is_image.nonzero().flatten()
        if len(places) != len(order):
            raise CheckpointError(
                f"expected {len(order)} image tokens in the prompt, got {len(places)}; is the tokenizer this model's?"
            )
        text_kind, image_kind, _ = self.family.kinds
        kinds = torch.where(is_image, image_kind, text_kind)[None]
        asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **given}
        asked |= {name: kinds for name in _KINDS if name in self._takes}
        return PeerInputs(
            given={name: self._placed(value) for name, value in asked.items()},
            image=places[torch.from_numpy(order)],
            text=(~is_image).nonzero().flatten(),
        )

    def _pixels(self, image: Image.Image) -> dict[str, np.ndarray]:
        """What the checkpoint's image processor makes of an image."""
        with self._preparing(image):
            made = self.settings.processor(images=[image], return_tensors="np")
            return {name: np.asarray(value) for name, value in made.items()}

    @cached_property
    def _takes(self) -> frozenset[str]:
        import inspect

        return frozenset(inspect.signature(self.network.forward).parameters)

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

        What is said here of drawing holds whatever the checkpoint's generation_config.json says of it; of the rest of
        that file only what `steering` names holds, and `notes` say so.

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
        # What is not given here, transformers takes from the network's own: see `steering`.
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
