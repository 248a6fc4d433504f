"""A class's name at image tokens: by the model's own output layer, and by its own states of text.

The logit lens reads a state with the final norm and the output layer (nostalgebraist 2020). The contextual lens asks
how near a state lies to the states, at the same layer, of texts that name the class (after LatentLens, 2026): a text is
read by the language model alone, and its last token is kept.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emma_viz.capture.questions import peer_network
from emma_viz.capture.recorder import Recorder
from emma_viz.checkpoints import LoadedModel
from emma_viz.errors import InputError
from emma_viz.evidence.logit_lens import word_scores
from emma_viz.shapes import EMBEDDING

TEXTS = ("a photo of a {}", "There is a {}", "the {}")
"""What names a class; its last token is the class's."""
ROWS = 64
"""States that are read at once: the logits of all of an image would be large."""


def first_tokens(model: LoadedModel, word: str) -> tuple[int, ...]:
    """The ids that an answer may begin a word with: after a space or not, with a small or a capital letter.

    A token of white space alone, which Llama's tokenizer puts before a word, is none: it would begin all words.

    Raises:
        InputError: the word is empty.
    """
    forms = dict.fromkeys((f" {word}", word, f" {word.capitalize()}", word.capitalize()))
    found: dict[int, None] = {}
    for form in forms:
        ids = model.tokenizer.encode(form)
        seen = [each for each in ids if model.tokenizer.decode([each], skip_special=False).strip()]
        found |= dict.fromkeys(seen[:1])
    if not found or not word.strip():
        raise InputError(f"expected a word, got {word!r}, of which the tokenizer makes no token.")
    return tuple(found)


@torch.no_grad()
def word_log_probabilities(
    model: LoadedModel, states: Float[Tensor, "N D"], words: Sequence[str]
) -> Float[np.ndarray, "N W"]:
    """The log-probability, nats, that the output layer gives each word at each state of `resid_post`.

    Of a word's first tokens the likeliest counts; of a word of several tokens that is its beginning.

    Args:
        model: whose output layer and tokenizer are used.
        states: of `resid_post`, (N, D).
        words: W of them, as they stand in a sentence.

    Raises:
        InputError: a word is empty, or transformers' class scales what its output layer gives.
    """
    ids = [list(first_tokens(model, word)) for word in words]
    found = np.empty((len(states), len(words)))
    for start in range(0, len(states), ROWS):
        logits = word_scores(model, states[start : start + ROWS])
        shares = logits.log_softmax(dim=-1).cpu().numpy()
        for index, chosen in enumerate(ids):
            found[start : start + ROWS, index] = shares[:, chosen].max(axis=1)
    return found


class TextStates:
    """States of texts that name a class, kept for each model and word."""

    def __init__(self):
        self._known: dict[tuple[str, str], Float[Tensor, "Y D"]] = {}

    @torch.no_grad()
    def of(self, model: LoadedModel, word: str, layers: Sequence[int]) -> Float[Tensor, "Y D"]:
        """The mean over TEXTS of the last token's `resid_post` at some layers; −1 is the embedding.

        Args:
            model: that reads the texts.
            word: what the texts speak of.
            layers: Y of them, zero-based.
        """
        key = (model.info.fingerprint, word)
        if key not in self._known:
            depth = range(EMBEDDING, model.info.n_layer)
            self._known[key] = torch.stack(
                [self._read(model, text.format(word), depth) for text in TEXTS]
            ).mean(dim=0)
        return self._known[key][[layer - EMBEDDING for layer in layers]]

    def _read(self, model: LoadedModel, text: str, depth: Sequence[int]) -> Tensor:
        peer = peer_network(model)
        # A text that begins has a token for that, where the tokenizer of transformers adds one.
        ids = model.tokenizer.encode(text) if peer is None else peer.words(text)["input_ids"]
        reader = model.vlm.llm if peer is None else peer.network
        device = model.vlm.device if peer is None else peer.device
        with Recorder(
            reader, "resid_post", layers=list(depth), tokens=slice(-1, None), dtype=torch.float32
        ) as kept:
            reader(torch.tensor([ids], device=device))
        return torch.stack([kept["resid_post", layer][0, 0] for layer in depth])


def cosines(states: Float[Tensor, "N D"], words: Float[Tensor, "W D"]) -> Float[np.ndarray, "N W"]:
    """Cosine of each state with each word, both about their own means: few directions hold most of what is common.

    NaN where there is one word or one state alone, or a vector does not differ from the mean.
    """
    one, two = (each.double() - each.double().mean(dim=0) for each in (states, words))
    scale = one.norm(dim=1)[:, None] * two.norm(dim=1)[None]
    return torch.where(scale > 0, one @ two.T / scale, torch.full_like(scale, float("nan"))).numpy()
