"""The logit lens against the model's own output."""

import pytest
import torch

from emma_viz.capture import record
from emma_viz.errors import InputError
from emma_viz.evidence.logit_lens import logit_lens, word_scores
from tests.tiny_model import tiny_model


def test_the_last_block_reads_what_the_model_predicts(model, photos):
    trace = record(model, photos[0], "What?", tokens="all", generate=False)
    states = trace["resid_post", model.info.n_layer - 1][0]
    ids = torch.tensor([trace.prompt_ids[0]])
    with torch.no_grad():
        scores = model.vlm(model.transform.pixels([photos[0]]), ids, logits="all").logits[0]
    shares = scores[:, : model.vlm.config.llm.vocab_size].softmax(-1)
    readings = logit_lens(model, states, count=3)
    assert len(readings) == len(states)
    for row in (0, 5, len(states) - 1):
        best = shares[row].topk(3)
        assert [reading.token for reading in readings[row]] == best.indices.tolist()
        assert [reading.probability for reading in readings[row]] == pytest.approx(
            best.values.tolist(), rel=1e-3
        )
        assert readings[row][0].text == model.tokenizer.decode([readings[row][0].token])


@pytest.mark.parametrize("name", ["tiny-tinyllava", "tiny-emma-v1"])
def test_states_in_fp32_are_read_by_weights_in_half_precision(name, tokenizer):
    """A layer norm and a root-mean-square norm."""
    model = tiny_model(name, tokenizer)
    states = torch.randn(4, model.info.d_model, generator=torch.Generator().manual_seed(0))
    exact = word_scores(model, states)
    model.vlm.to(torch.bfloat16)
    torch.testing.assert_close(word_scores(model, states), exact, rtol=0.03, atol=0.03)


def test_states_of_another_width_are_refused(one):
    with pytest.raises(InputError, match="width"):
        logit_lens(one, torch.zeros(2, 3))
    with pytest.raises(InputError, match="at least 1"):
        logit_lens(one, torch.zeros(1, one.info.d_model), count=0)
