"""Families in whose blocks some mixers are attention and some a Mamba-2."""

import pytest
import torch

from emma_viz.models import generate
from tests.families.conftest import make_member


@pytest.mark.parametrize("family", ["matvlm", "mmmamba"])
@torch.no_grad()
def test_an_answer_is_that_of_the_whole_text_read_anew_for_each_token(family, tmp_path):
    """Two images with prompts of two lengths: states of the mixers and keys of attention go on from what was read."""
    vlm = make_member(family, tmp_path).loaded.vlm
    assert vlm.lead, "the text before the image is what both go on from"
    pixels = tuple(torch.randn(2, 3, each.image_size, each.image_size) for each in vlm.config.vision.towers)
    prompts = [[5, 17, 9], [40, 3, 88, 120, 7]]
    found = generate(vlm, pixels, prompts, max_new_tokens=5, eos_id=None).ids
    for sample, prompt in enumerate(prompts):
        own, ids = tuple(each[sample : sample + 1] for each in pixels), list(prompt)
        for token in found[sample]:
            scores = vlm(own, torch.tensor([ids]), logits="all").logits[0, -1]
            assert token == int(scores[: vlm.config.llm.vocab_size].argmax())
            ids.append(token)
