"""Choosing the next token from scores."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emma_viz.errors import InputError


def check_sampling(temperature: float, top_p: float) -> None:
    """Reject settings that mean nothing.

    Raises:
        InputError: temperature below 0 or top_p outside (0, 1].
    """
    if temperature < 0:
        raise InputError(f"temperature must be 0 (greedy) or more, got {temperature}.")
    if not 0 < top_p <= 1:
        raise InputError(f"top_p must lie in (0, 1], got {top_p}.")


def nucleus(probabilities: Float[Tensor, "B V"], top_p: float) -> Float[Tensor, "B V"]:
    """Keep the likeliest tokens whose probabilities first reach top_p, and renormalise.

    The likeliest token always stays (Holtzman et al. 2020).
    """
    if top_p >= 1:
        return probabilities
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(dim=-1) - ordered
    kept = ordered.masked_fill(before >= top_p, 0.0)
    filtered = torch.zeros_like(probabilities).scatter(-1, order, kept)
    return filtered / filtered.sum(dim=-1, keepdim=True)


def choose_tokens(
    scores: Float[Tensor, "B V"],
    *,
    temperature: float,
    top_p: float,
    generators: list[torch.Generator] | None,
) -> Int[Tensor, " B"]:
    """The next token of each sample: the best one at temperature 0, else a draw.

    Args:
        scores: over the tokens that may be chosen.
        generators: one CPU generator a sample, so that a sample's draws do not depend on its neighbours;
            not needed at temperature 0.
    """
    if temperature == 0:
        return scores.argmax(dim=-1)
    assert generators is not None, "sampling needs generators"
    probabilities = nucleus((scores.float() / temperature).softmax(dim=-1), top_p).cpu()
    drawn = [
        torch.multinomial(row, 1, generator=generator)
        for row, generator in zip(probabilities, generators, strict=True)
    ]
    return torch.cat(drawn).to(scores.device)
