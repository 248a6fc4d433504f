"""Rollout: from which tokens a position's state came, through all blocks, by ALTI's rule for implicit attention.

A block's output at i is a sum of vectors: what i held itself, what its mixer took from each position, and what biases
gave. ALTI (Ferrando et al. 2022) lets a vector T count for as much as it brings the sum y nearer to itself,
max(0, ‖y‖₁ − ‖y − T‖₁), and makes the counts of each position sum to 1. Multiplied through the blocks, they share out
every position over the embeddings of all tokens and the biases of each block. Nothing here is causal, and nothing is
signed; the routing is held.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emma_viz.errors import InputError
from emma_viz.evidence.mixers.implicit_attention import attention_rows
from emma_viz.evidence.mixers.routing import norm_scale, require_mixers, wide
from emma_viz.models import Block, MambaLM


@dataclass(frozen=True, kw_only=True, eq=False)
class Rollout:
    """Shares of some positions' final states; those of a position sum to 1."""

    tokens: Float[np.ndarray, "Q L"]
    """From each token's embedding, image tokens first."""
    bias: Float[np.ndarray, "Q Y"]
    """From the biases of each block's convolution."""


@torch.no_grad()
def contributions(
    block: Block, stream: Float[Tensor, "L D"], positions: Sequence[int], *, rows_at_once: int = 8
) -> tuple[Float[np.ndarray, "Q L"], Float[np.ndarray, " Q"]]:
    """ALTI's shares of a block's output at some positions: of each position's vector, and of the biases'.

    Args:
        block: of a loaded model.
        stream: the residual stream that enters it, of one sample, from the first token on.
        positions: whose output is shared out.
        rows_at_once: positions whose vectors are in memory together, L·D numbers each.

    Raises:
        InputError: a position is not in the sequence.
    """
    normed = wide(stream) * norm_scale(stream, block.norm.weight, block.norm.eps)
    tokens, biases = np.zeros((len(positions), len(stream))), np.zeros(len(positions))
    for start in range(0, len(positions), rows_at_once):
        some = list(positions[start : start + rows_at_once])
        # Nothing behind the last of them is read by any.
        rows = attention_rows(block.mixer, normed[: max(some) + 1], some)
        for index, (position, vectors, bias) in enumerate(
            zip(some, rows.vectors(), rows.bias_vectors(), strict=True)
        ):
            vectors[position] += wide(stream[position])
            whole = vectors.sum(dim=0) + bias
            size = whole.abs().sum()
            near = (size - (whole - vectors).abs().sum(dim=-1)).clamp(min=0).double().cpu().numpy()
            constant = float((size - (whole - bias).abs().sum()).clamp(min=0))
            total = near.sum() + constant
            # A state of zeros came from nowhere else than from where it is.
            tokens[start + index, : len(near)] = near / total if total else np.arange(len(near)) == position
            biases[start + index] = constant / total if total else 0.0
    return tokens, biases


@torch.no_grad()
def roll_out(
    llm: MambaLM, embeddings: Float[Tensor, "1 L D"], positions: Sequence[int], *, rows_at_once: int = 8
) -> Rollout:
    """Share out the last block's output at some positions over the embeddings and the biases of every block.

    All positions that a later block read must be shared out in every earlier one: L rows a block, where implicit
    attention alone needs one.

    Args:
        llm: the language model.
        embeddings: what enters block 0, of one sample.
        positions: whose state is shared out, such as the one that begins the answer.
        rows_at_once: as `contributions`.

    Raises:
        InputError: a position is not in the sequence.
    """
    length, blocks = embeddings.shape[1], llm.backbone.layers
    require_mixers(blocks)
    if not positions or not all(0 <= position < length for position in positions):
        raise InputError(f"expected positions from 0 to {length - 1}, got {list(positions)}.")
    streams = _streams(llm, embeddings)
    shares = np.eye(length)[list(positions)]
    bias = np.zeros((len(positions), len(blocks)))
    for number in reversed(range(len(blocks))):
        block = blocks[number]
        assert isinstance(block, Block)
        read = np.flatnonzero(shares.any(axis=0)).tolist()
        tokens, biases = contributions(block, streams[number], read, rows_at_once=rows_at_once)
        bias[:, number] = shares[:, read] @ biases
        shares = shares[:, read] @ tokens
    return Rollout(tokens=shares, bias=bias)


def _streams(llm: MambaLM, embeddings: Float[Tensor, "1 L D"]) -> list[Float[Tensor, "L D"]]:
    """The residual stream that enters each block."""
    found, hidden, residual = [], embeddings, None
    for block in llm.backbone.layers:
        found.append((hidden if residual is None else hidden + residual)[0])
        hidden, residual = block(hidden, residual)
    return found
