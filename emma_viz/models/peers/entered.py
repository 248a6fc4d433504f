"""What of a question enters the language model of a model that transformers runs, to be run again with other tokens."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from emma_viz.errors import CheckpointError, InputError
from emma_viz.models.attention_sites import attention_blocks
from emma_viz.models.norms import normed_wide
from emma_viz.models.peers.network import PeerInputs, PeerNetwork

_DEEP = "deepstack_visual_embeds"
"""The argument by which transformers' classes add image features behind the first blocks as well."""
_CACHES = {"cache": None, "past_key_values": None, "use_cache": False}
"""A run leaves nothing for the next."""
_SCALED = ("final_logit_softcapping", "logits_scaling", "logit_scale")
"""Settings by which some networks change what their output layer gives."""


class EnteredQuestion:
    """One question on its way: the image was read, and the language model can be run with other image tokens.

    Args:
        peer: the model.
        inputs: the question.
    """

    def __init__(self, peer: PeerNetwork, inputs: PeerInputs):
        self.peer, self._image = peer, inputs.image
        self._model = language_model(peer)
        self._given = _given(peer, self._model, inputs)
        embeds = self._given["inputs_embeds"]
        self._width = embeds.shape[-1]
        self.text: Float[Tensor, "M D"] = embeds[0, inputs.text]
        """Embeddings of the tokens that are not the image's."""

    @cached_property
    def _rows(self) -> Int[Tensor, " A"]:
        """Of each image token, in the order of its geometry, its row where all follow the sequence."""
        return self._image.argsort().argsort()

    @cached_property
    def tokens(self) -> Float[Tensor, "A W"]:
        """The image's tokens in the order of their geometry: what enters, and what is added behind the first blocks."""
        deep = self._given.get(_DEEP) or []
        rows = self._rows.to(self._given["inputs_embeds"].device)
        return torch.cat(
            [self._given["inputs_embeds"][0, self._image], *(each[rows] for each in deep)], dim=-1
        )

    @torch.no_grad()
    def scores(self, tokens: Float[Tensor, "A W"]) -> Float[Tensor, " V"]:
        """Scores of the token that follows with these in place of the image's tokens, fp32.

        Raises:
            InputError: as `rows`.
        """
        return self.rows(tokens)[-1]

    def rows(self, tokens: Float[Tensor, "A W"], *, count: int = 1) -> Float[Tensor, "count V"]:
        """Scores at the last positions with these in place of the image's tokens, fp32; with gradients where they are
        on.

        Args:
            tokens: as `tokens` has them.
            count: of the positions.

        Raises:
            InputError: they are not as many, or not as wide, or the network scales its scores.
        """
        if tokens.shape != self.tokens.shape:
            raise InputError(
                f"expected image tokens of shape {tuple(self.tokens.shape)}, got {tuple(tokens.shape)}."
            )
        head = output_layer(self.peer)
        embeds = self._given["inputs_embeds"].clone()
        first, *deep = tokens.to(embeds).split(self._width, dim=-1)
        embeds[0, self._image] = first
        changed: dict[str, Any] = {"inputs_embeds": embeds}
        if deep:
            order = self._image.argsort().to(embeds.device)
            changed[_DEEP] = [each[order] for each in deep]
        kept = {name: value for name, value in _CACHES.items() if name in self._given}
        out = self._model(**{**self._given, **kept, **changed})
        return head(out.last_hidden_state[0, -count:]).float()


def language_model(peer: PeerNetwork) -> nn.Module:
    """The module that holds the blocks and the last norm."""
    blocks = attention_blocks(peer.network)
    assert blocks is not None, "a model without known blocks is not loaded"
    return peer.network.get_submodule(blocks.path.rpartition(".")[0])


def output_layer(peer: PeerNetwork) -> Callable[[Tensor], Tensor]:
    """From the final hidden state to the scores of all tokens.

    Raises:
        InputError: the network scales or caps what its output layer gives.
    """
    text = peer.settings.config.get_text_config()
    if said := [name for name in _SCALED if getattr(text, name, None) not in (None, 1.0)]:
        raise InputError(
            f"expected a language model that gives the scores of its output layer as they are; its config.json has "
            f"{said[0]}, and words are not read from its states."
        )
    return peer.network.get_output_embeddings()  # ty: ignore[not-callable]


def word_scores_of(peer: PeerNetwork, states: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
    """What the last norm and the output layer make of states of the residual stream, fp32.

    Raises:
        InputError: as `output_layer`.
    """
    head = output_layer(peer)
    weight = peer.network.get_output_embeddings().weight  # ty: ignore[not-callable]
    norm = language_model(peer).norm
    assert isinstance(norm, nn.Module)
    normed = normed_wide(norm, states.to(weight.device, torch.float32))
    return head(normed.to(weight.dtype)).float()


class _EnteredError(Exception):
    """The language model is about to be run: no more is needed."""


@torch.no_grad()
def _given(peer: PeerNetwork, model: nn.Module, inputs: PeerInputs) -> dict[str, Any]:
    """The arguments with which the language model is run for a question; it is not run."""
    found: dict[str, Any] = {}

    def stop(module: nn.Module, args: tuple, given: dict[str, Any]) -> None:
        found.update(given)
        raise _EnteredError

    hook = model.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        peer.read(inputs)
    except _EnteredError:
        pass
    finally:
        hook.remove()
    if not isinstance(found.get("inputs_embeds"), Tensor):
        raise CheckpointError(
            f"transformers' {type(peer.network).__name__} does not hand its language model embeddings by name; its "
            "image tokens cannot be changed."
        )
    return found
