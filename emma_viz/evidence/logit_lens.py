"""The logit lens: the words that a model's own output layer reads from a state in the middle.

After nostalgebraist (2020): final norm and output layer, applied to the residual stream of an earlier block.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from emma_viz.capture.questions import RecordableModel, TextModel, peer_network
from emma_viz.errors import InputError
from emma_viz.models.norms import normed_wide
from emma_viz.models.peers.entered import word_scores_of


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One token that the output layer reads."""

    text: str
    """The token as text."""
    token: int
    """Its id."""
    probability: float
    """Its share of the probability."""


@torch.no_grad()
def logit_lens(
    model: RecordableModel, states: Float[Tensor, "N D"], *, count: int = 5
) -> tuple[tuple[Reading, ...], ...]:
    """Read states of the residual stream (`resid_post`) as words.

    Args:
        model: whose states they are.
        states: one state a row.
        count: how many words of each, the likeliest first.

    Returns:
        Per state, its readings. For the last block's `resid_post` they are the model's own prediction.

    Raises:
        InputError: the states are not of the model's width, or `count` is not positive.
    """
    if states.shape[-1] != model.info.d_model:
        raise InputError(
            f"{model.info.name} has a residual stream of width {model.info.d_model}; these states have "
            f"{states.shape[-1]}. Pass states of resid_post."
        )
    if count < 1:
        raise InputError(f"count must be at least 1, got {count}.")
    logits = word_scores(model, states)
    found = logits.softmax(dim=-1).topk(min(count, logits.shape[-1]), dim=-1)
    return tuple(
        tuple(
            Reading(text=model.tokenizer.decode([token]), token=token, probability=share)
            for token, share in zip(tokens, shares, strict=True)
        )
        for tokens, shares in zip(found.indices.tolist(), found.values.tolist(), strict=True)
    )


@torch.no_grad()
def word_scores(model: RecordableModel | TextModel, states: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
    """What the model's last norm and output layer make of states of `resid_post`: scores of its known words, fp32.

    Args:
        model: whose states they are.
        states: one state a row.

    Raises:
        InputError: transformers' class runs the model, and scales what its output layer gives.
    """
    peer = peer_network(model)
    if peer is not None:
        return word_scores_of(peer, states)
    llm = model.vlm.llm
    weight = llm.backbone.embedding.weight
    normed = normed_wide(llm.backbone.norm_f, states.to(weight.device, torch.float32))
    return llm.logits(normed.to(weight.dtype)[None])[0, :, : llm.config.vocab_size].float()
