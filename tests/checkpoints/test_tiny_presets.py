"""A tiny preset becomes a checkpoint and comes back: with a tokenizer, without the network, ready to answer."""

import pytest
import torch
from PIL import Image

from emma_viz.capture import record
from emma_viz.checkpoints import load_model, save_run_directory, save_vision_encoder
from emma_viz.errors import CheckpointError
from emma_viz.models import PRESETS, VLM

INSTRUCTED = "tiny-emma-text-fusion"
"""The one that reads its prompt by CLIP's tokenizer, too, which is not ours to ship."""
TINY = [name for name in PRESETS if name.startswith("tiny-") and name != INSTRUCTED]


def written(name: str, folder):
    """A preset's model of random weights, and where it and its encoder were saved."""
    torch.manual_seed(0)
    vlm = VLM(PRESETS[name](), backend="torch").eval()
    encoder = save_vision_encoder(folder / "encoder.safetensors", vlm.vision)
    return vlm, save_run_directory(folder / "run", vlm.config, vlm.state_dict()), encoder


@pytest.mark.parametrize("name", TINY)
def test_it_answers_a_prompt_after_it_was_saved(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    vlm, folder, encoder = written(name, tmp_path)
    loaded = load_model(folder, vision_source=encoder, backend="torch")
    assert loaded.config == vlm.config
    for key, tensor in vlm.state_dict().items():
        assert torch.equal(loaded.vlm.state_dict()[key], tensor), key
    question = "Is there a cup in the image?"
    assert loaded.tokenizer.decode(loaded.tokenizer.encode(question)) == question
    assert loaded.tokenizer.rows <= vlm.config.llm.vocab_size
    trace = record(loaded, Image.new("RGB", (64, 48), "red"), question, max_new_tokens=4)
    assert trace["resid_post"].isfinite().all()
    assert len(trace.answers) == 1


def test_the_one_that_needs_another_tokenizer_says_so(tmp_path):
    _, folder, encoder = written(INSTRUCTED, tmp_path)
    with pytest.raises(CheckpointError, match=r"has no instruction-tokenizer\.json"):
        load_model(folder, vision_source=encoder)
