"""Answers: batched generation with the constant-size cache of a Mamba."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emma_viz.errors import InputError
from emma_viz.models.cache import MambaCache
from emma_viz.models.sampling import check_sampling, choose_tokens
from emma_viz.models.vlm import VLM, TextNetwork


@dataclass(frozen=True, kw_only=True)
class Generation:
    """The answers of a batch."""

    ids: tuple[tuple[int, ...], ...]
    """New token ids of each sample, without the prompt and without the end token."""
    ended: tuple[bool, ...]
    """Whether each sample stopped by the end token rather than by the limit."""
    seed: int | None
    """Seed the draws came from; None when greedy."""


@torch.no_grad()
def generate(
    vlm: VLM | TextNetwork,
    pixels: Sequence[Float[Tensor, "B 3 S S"]] | None,
    prompt_ids: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eos_id: int | None,
    features: Float[Tensor, "B P F"] | None = None,
    instruction: Int[Tensor, "B Q"] | None = None,
    prefix: MambaCache | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
    on_token: Callable[[int, int], None] | None = None,
    on_scores: Callable[[int, Float[Tensor, "B V"]], None] | None = None,
) -> Generation:
    """Answer a batch of prompts, each after its own image.

    Prompts of unequal length give what each gives alone: the prefill is one right-padded pass in which
    padding leaves every state untouched. Forward hooks see it first, `[B, T + longest prompt, ·]`, then one
    call `[B, 1, ·]` a step, always with all samples in their order (a finished sample runs along, ignored).

    Args:
        vlm: the model, in evaluation mode; a language model alone as a `TextNetwork`.
        pixels: one normalised tensor a tower; None to answer without an image (or with `features`).
        prompt_ids: token ids of each prompt.
        max_new_tokens: at most this many tokens a sample.
        eos_id: the end token; None never stops early (for timing).
        features: precomputed encoder features instead of pixels.
        instruction: what is asked, for a model whose image tokens depend on it (`VLM.instruct`).
        prefix: what the model has seen before each prompt, instead of an image
            (`emma_viz.models.prefixes`); left as it was.
        temperature: 0 takes the best token; above, draw from the softened scores.
        top_p: draw from the likeliest tokens that make up this probability.
        seed: fixes the draws; sample i draws from seed + i. None takes a random seed, reported in the result.
        on_token: called as `on_token(sample, token_id)` for each new token as it comes, in order of samples
            within a step; not for the end token.
        on_scores: called as `on_scores(step, scores)` with what each step's tokens are chosen by, the known
            vocabulary alone; step 0 scores the answers' first tokens.

    Raises:
        InputError: the batch is empty, its sizes differ, a prompt without an image has no token, a prefix is given
            beside an image, or a setting is out of range.
    """
    _check(vlm, pixels, features, prefix, prompt_ids, max_new_tokens)
    check_sampling(temperature, top_p)
    generators = None
    if temperature:
        seed = secrets.randbits(31) if seed is None else seed  # the global generator is the caller's
        generators = [torch.Generator().manual_seed(seed + sample) for sample in range(len(prompt_ids))]
    known = vlm.llm.config.vocab_size  # rows beyond it only pad the table and have no text
    answers = _Answers(len(prompt_ids), eos_id, on_token)
    cache = vlm.llm.new_cache() if prefix is None else prefix.copy()
    ids, lengths = pad_prompts(prompt_ids)
    scores = vlm(
        pixels, ids if ids.shape[1] else None, features=features, instruction=instruction,
        lengths=lengths if ids.shape[1] else None, cache=cache, logits="last",
    ).logits  # fmt: skip
    for step in range(max_new_tokens):
        if on_scores is not None:
            on_scores(step, scores[:, 0, :known])
        chosen = choose_tokens(
            scores[:, 0, :known], temperature=temperature, top_p=top_p, generators=generators
        )
        answers.add(chosen.tolist())
        if all(answers.ended) or step == max_new_tokens - 1:
            break
        scores = vlm(None, chosen[:, None], cache=cache, logits="last").logits
    return Generation(
        ids=tuple(map(tuple, answers.ids)), ended=tuple(answers.ended), seed=seed if temperature else None
    )


class _Answers:
    """The answers of a batch as they grow."""

    def __init__(self, samples: int, eos_id: int | None, on_token: Callable[[int, int], None] | None):
        self.ids: list[list[int]] = [[] for _ in range(samples)]
        self.ended = [False] * samples
        self._eos_id, self._on_token = eos_id, on_token

    def add(self, tokens: Sequence[int]) -> None:
        """One more token of each sample; those of a finished one are left out."""
        for sample, token in enumerate(tokens):
            self.ended[sample] = self.ended[sample] or token == self._eos_id
            if not self.ended[sample]:
                self.ids[sample].append(token)
                if self._on_token is not None:
                    self._on_token(sample, token)


def pad_prompts(
    prompt_ids: Sequence[Sequence[int]], pad_id: int = 0
) -> tuple[Int[Tensor, "B M"], Int[Tensor, " B"]]:
    """Right-pad prompts to one table, and their lengths. What `pad_id` is does not matter to the model."""
    lengths = [len(ids) for ids in prompt_ids]
    longest = max(lengths)
    padded = [[*ids, *[pad_id] * (longest - len(ids))] for ids in prompt_ids]
    return torch.tensor(padded, dtype=torch.long).reshape(len(padded), longest), torch.tensor(lengths)


def _check(vlm: VLM | TextNetwork, pixels, features, prefix, prompt_ids, max_new_tokens: int) -> None:
    if not len(prompt_ids):
        raise InputError("prompt_ids is empty; give one list of token ids a sample.")
    images = features.shape[0] if features is not None else pixels[0].shape[0] if pixels else None
    if images is not None and images != len(prompt_ids):
        raise InputError(f"Got {images} images and {len(prompt_ids)} prompts; give as many of each.")
    if images is not None and prefix is not None:
        raise InputError("Give either an image or a prefix that has seen it, not both.")
    if prefix is not None and (prefix.offset is None or len(prefix.offset) != len(prompt_ids)):
        seen = 0 if prefix.offset is None else len(prefix.offset)
        raise InputError(
            f"Got a prefix of {seen} samples and {len(prompt_ids)} prompts; give as many of each."
        )
    if images is None and min(len(ids) for ids in prompt_ids) == 0:
        raise InputError("A prompt without an image must have at least one token.")
    if max_new_tokens < 1:
        raise InputError(f"max_new_tokens must be at least 1, got {max_new_tokens}.")
