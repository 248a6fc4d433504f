"""The frozen decomposition: sums, slopes and what it leaves alone."""

import subprocess
import sys
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from emma_viz.capture import Recorder
from emma_viz.errors import InputError
from emma_viz.evidence.mixers.frozen import decompose, decompose_states
from emma_viz.evidence.mixers.implicit_attention import attention_rows
from emma_viz.evidence.mixers.routing import (
    carried,
    convolution_bias,
    convolved,
    norm_scale,
    output_scale,
    project_in,
    routing_of,
)

PROMPT, BEFORE, WORD, OTHER = "What is it?", (40, 41), (50, 51), (60, 61)


@pytest.fixture(scope="module")
def loud(model):
    """The tiny model with convolution biases and logits that are not small."""
    vlm = deepcopy(model.vlm)
    torch.manual_seed(3)
    with torch.no_grad():
        vlm.llm.backbone.embedding.weight.mul_(30)
        for block in vlm.llm.backbone.layers:
            block.mixer.conv1d.bias.normal_(std=0.5)
    return replace(model, vlm=vlm)


def plain_score(model, photo):
    """The same logits through the model itself."""
    vlm = model.vlm
    ids = [*model.tokenizer.encode(model.prompt(PROMPT)), *BEFORE, *WORD[:-1]]
    with torch.no_grad():
        logits = vlm(model.transform.pixels([photo]), torch.tensor([ids]), logits="text").logits[0]
    rows = logits[-len(WORD) :]
    return float(sum(row[a] - row[b] for row, a, b in zip(rows, WORD, OTHER, strict=True)))


@pytest.mark.parametrize("gate", ["frozen", "half"])
def test_the_parts_sum_to_the_models_own_logit_difference(loud, photos, gate):
    found = decompose(loud, photos[0], PROMPT, before=BEFORE, word=WORD, against=OTHER, gate=gate)
    assert found.score == pytest.approx(plain_score(loud, photos[0]), rel=1e-4, abs=1e-4)
    size = np.abs(found.image).sum() + np.abs(found.text).sum() + np.abs(found.bias).sum()
    assert abs(found.remainder) < 1e-5 * size
    assert np.abs(found.bias).sum() > 0.01 * size, "a test without biases could not see them lost"
    for layer in range(len(found.content)):
        whole = found.content[layer].sum() + found.bias[layer:].sum()
        assert whole == pytest.approx(found.score, abs=1e-5 * size)
        assert sum(found.shares(layer).values()) == pytest.approx(1.0, abs=1e-3)


def test_without_a_rival_the_mean_logit_is_taken_off(loud, photos):
    alone = decompose(loud, photos[0], PROMPT, word=WORD[:1])
    ids = loud.tokenizer.encode(loud.prompt(PROMPT))
    with torch.no_grad():
        logits = loud.vlm(loud.transform.pixels([photos[0]]), torch.tensor([ids]), logits="text").logits[
            0, -1
        ]
    known = logits[: loud.vlm.config.llm.vocab_size]
    assert alone.score == pytest.approx(float(known[WORD[0]] - known.mean()), rel=1e-4, abs=1e-4)


def test_in_double_precision_nothing_remains(loud):
    llm = deepcopy(loud.vlm.llm).double()
    draw = torch.Generator().manual_seed(0)
    embeddings = torch.randn(1, 14, llm.config.d_model, generator=draw, dtype=torch.float64)
    embeddings[:, 4] = 0
    direction = torch.randn(1, llm.config.d_model, generator=draw, dtype=torch.float64)
    score, content, bias = decompose_states(llm, embeddings, direction)
    size = np.abs(content[0]).sum() + np.abs(bias).sum()
    assert content[0].sum() + bias.sum() == pytest.approx(score, abs=1e-11 * size)
    assert content[0][4] == 0.0, "an embedding of zero carries nothing"


def held_score(llm, at, moved, direction):
    """The score of moved embeddings with all that routes held as it was at others: an affine function of them."""
    stream, other = at, moved
    for block in llm.backbone.layers:
        mixer, inner = block.mixer, block.mixer.config.d_inner
        scale = norm_scale(stream, block.norm.weight, block.norm.eps)
        entered = project_in(mixer, stream * scale)
        bias = convolution_bias(mixer)
        held = routing_of(mixer, convolved(mixer, entered.x) + bias, entered.dt)

        def gated(x, mixer=mixer, inner=inner, entered=entered, bias=bias, held=held):
            u = held.secant * (convolved(mixer, x) + bias)[..., :inner]
            return carried(mixer, u, held) * functional.silu(entered.z)

        own, changed = gated(entered.x), gated(project_in(mixer, other * scale).x)
        last = output_scale(mixer, own)
        out = block.mixer.out_proj.weight
        stream = stream + functional.linear(own if last is None else own * last, out)
        other = other + functional.linear(changed if last is None else changed * last, out)
    final = norm_scale(stream, llm.backbone.norm_f.weight, llm.backbone.norm_f.eps)
    return float(((other * final)[0, -1:] * direction).sum())


def test_its_gradients_are_finite_differences_of_the_held_model_whatever_the_step(loud):
    """The held model is affine: a step of any size gives the same slope, but for rounding."""
    llm = deepcopy(loud.vlm.llm).double()
    draw = torch.Generator().manual_seed(2)
    at = torch.randn(1, 12, llm.config.d_model, generator=draw, dtype=torch.float64)
    direction = torch.randn(1, llm.config.d_model, generator=draw, dtype=torch.float64)
    with torch.no_grad():
        score, content, _ = decompose_states(llm, at, direction)
        assert held_score(llm, at, at, direction) == pytest.approx(score, rel=1e-9)
        for token, step in ((0, 1e-3), (5, -1.0), (11, 40.0)):
            moved = at.clone()
            moved[0, token] *= 1 + step
            slope = (held_score(llm, at, moved, direction) - score) / step
            assert slope == pytest.approx(content[0][token], rel=1e-6, abs=1e-9)


def test_its_slope_says_what_another_embedding_in_the_place_of_one_does(loud, photos):
    """⟨slope, e − e'⟩ for an e' that is not on e's line, in fp32 through the model's own image tokens."""
    found = decompose(loud, photos[0], PROMPT, word=WORD[:1], against=OTHER[:1])
    ids = torch.tensor([loud.tokenizer.encode(loud.prompt(PROMPT))])
    llm = loud.vlm.llm
    with torch.no_grad():
        tokens = loud.vlm.embed_image(loud.transform.pixels([photos[0]]))
        at = torch.cat([tokens, llm.embed(ids)], dim=1).double()
        moved = at.clone()
        moved[0, 3] = moved[0, 7].flip(0)
        direction = (llm.lm_head.weight[WORD[0]] - llm.lm_head.weight[OTHER[0]]).double()[None]
        wide = deepcopy(llm).double()
        fall = held_score(wide, at, at, direction) - held_score(wide, at, moved, direction)
    expected = found.slope[3] @ (at[0, 3] - moved[0, 3]).numpy()
    assert fall == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_one_block_is_the_sum_of_its_implicit_attention(loud):
    """The backward pass against the rows, which share no gradient."""
    llm = deepcopy(loud.vlm.llm).double()
    llm.backbone.layers = llm.backbone.layers[:1]
    block, final = llm.backbone.layers[0], llm.backbone.norm_f
    draw = torch.Generator().manual_seed(1)
    stream = torch.randn(1, 11, llm.config.d_model, generator=draw, dtype=torch.float64)
    direction = torch.randn(1, llm.config.d_model, generator=draw, dtype=torch.float64)
    _, content, bias = decompose_states(llm, stream, direction)
    with torch.no_grad():
        normed = stream * norm_scale(stream, block.norm.weight, block.norm.eps)
        rows = attention_rows(block.mixer, normed[0], [10])
        end = stream[:, -1:] + rows.vectors().sum(dim=1) + rows.bias_vectors()
        read = direction[0] * final.weight / (end[0, -1].square().mean() + final.eps).sqrt()
        tokens, constant = rows.along(read)
        expected = tokens[0].clone()
        expected[-1] += stream[0, -1] @ read
    np.testing.assert_allclose(content[0], expected.numpy(), rtol=1e-9, atol=1e-12)
    assert bias.sum() == pytest.approx(float(constant), rel=1e-9)


def test_the_model_is_left_as_it_was(loud, photos):
    before = {name: value.clone() for name, value in loud.vlm.state_dict().items()}
    decompose(loud, photos[0], PROMPT, word=WORD)
    assert all(parameter.grad is None for parameter in loud.vlm.parameters())
    assert all(torch.equal(value, before[name]) for name, value in loud.vlm.state_dict().items())


def test_what_cannot_be_split_is_refused(one, photos, unchecked):
    with pytest.raises(InputError, match="at least one token"):
        decompose(one, photos[0], PROMPT, word=())
    with pytest.raises(InputError, match="as many"):
        decompose(one, photos[0], PROMPT, word=WORD, against=(1,))
    with pytest.raises(InputError, match="gate rule"):
        decompose(one, photos[0], PROMPT, word=WORD, gate="open")


def test_it_reads_what_the_recorder_sees(loud, photos):
    """The rows of the last position, summed, are the recorded mixer outputs of every layer."""
    vlm, ids = loud.vlm, torch.tensor([loud.tokenizer.encode(loud.prompt(PROMPT))])
    with Recorder(vlm, ["mixer_in", "mixer_out"]) as recorder, torch.no_grad():
        vlm(loud.transform.pixels([photos[0]]), ids, logits="none")
    for layer, block in enumerate(vlm.llm.backbone.layers):
        entered, left = recorder["mixer_in", layer][0], recorder["mixer_out", layer][0]
        last = len(entered) - 1
        rows = attention_rows(block.mixer, entered, [0, last])
        whole = rows.vectors().sum(dim=1) + rows.bias_vectors()
        torch.testing.assert_close(whole, left[[0, last]].float(), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_no_compiler_is_imported_for_it():
    """In a process of its own, since others import it for their own ends; it takes seconds."""
    code = (
        "import sys, torch\nfrom emma_viz.evidence.mixers.frozen import decompose_states\n"
        "from emma_viz.models import PRESETS, MambaLM\n"
        "llm = MambaLM(PRESETS['tiny-cobra']().llm)\n"
        "decompose_states(llm, torch.randn(1, 9, llm.config.d_model), torch.randn(1, llm.config.d_model))\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
