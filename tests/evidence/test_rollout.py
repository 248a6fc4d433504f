"""Rollout by ALTI's rule: its definition written out, paths closed by hand, and shares that sum to 1."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from emma_viz.errors import InputError
from emma_viz.evidence.mixers.implicit_attention import attention_rows
from emma_viz.evidence.mixers.rollout import contributions, roll_out

LENGTH = 10


@pytest.fixture(scope="module")
def llm(model):
    """The tiny language model in double precision, with biases that can be seen."""
    found = deepcopy(model.vlm.llm).double()
    torch.manual_seed(2)
    with torch.no_grad():
        for block in found.backbone.layers:
            block.mixer.conv1d.bias.normal_(std=0.5)
    return found


@pytest.fixture(scope="module")
def embeddings(llm):
    draw = torch.Generator().manual_seed(8)
    return torch.randn(1, LENGTH, llm.config.d_model, generator=draw, dtype=torch.float64)


@torch.no_grad()
def by_hand(block, stream, i):
    """The rule for one position, written out vector by vector."""
    rows = attention_rows(block.mixer, block.norm(stream), [i])
    out = stream[i] + block.mixer(block.norm(stream)[None])[0, i]
    parts = [*rows.vectors()[0], rows.bias_vectors()[0]]
    parts[i] = parts[i] + stream[i]
    counts = torch.stack([(out.abs().sum() - (out - part).abs().sum()).clamp(min=0) for part in parts])
    return (counts / counts.sum()).numpy()


def test_a_blocks_shares_are_the_rule_written_out(llm, embeddings):
    block = llm.backbone.layers[1]
    tokens, bias = contributions(block, embeddings[0], [0, 4, 9], rows_at_once=2)
    for index, position in enumerate((0, 4, 9)):
        expected = by_hand(block, embeddings[0], position)
        np.testing.assert_allclose(tokens[index], expected[:-1], atol=1e-6)
        assert bias[index] == pytest.approx(expected[-1], abs=1e-6)
        assert not tokens[index, position + 1 :].any()


def test_shares_sum_to_one_and_are_the_product_over_blocks(llm, embeddings):
    found = roll_out(llm, embeddings, [LENGTH - 1, 3])
    np.testing.assert_allclose(found.tokens.sum(axis=1) + found.bias.sum(axis=1), 1, atol=1e-12)
    assert (found.tokens >= 0).all()
    assert found.bias.min() >= 0
    assert not found.tokens[1, 4:].any()
    matrices, stream = [], embeddings
    for block in llm.backbone.layers:
        matrices.append(contributions(block, stream[0], range(LENGTH))[0])
        with torch.no_grad():
            stream = stream + block.mixer(block.norm(stream))
    whole = np.linalg.multi_dot(matrices[::-1])
    np.testing.assert_allclose(found.tokens, whole[[LENGTH - 1, 3]], atol=1e-6)


def test_where_mixers_give_nothing_every_position_is_its_own(llm, embeddings):
    still = deepcopy(llm)
    with torch.no_grad():
        for block in still.backbone.layers:
            block.mixer.out_proj.weight.zero_()
    found = roll_out(still, embeddings, [LENGTH - 1])
    np.testing.assert_allclose(found.tokens[0], np.eye(LENGTH)[-1])
    assert not found.bias.any()


def test_a_position_that_is_not_there_is_refused(llm, embeddings):
    for positions in ([], [LENGTH]):
        with pytest.raises(InputError, match="positions"):
            roll_out(llm, embeddings, positions)
