"""A tiny preset becomes a checkpoint and comes back: with a tokenizer, without the network, ready to answer."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from emma_viz.capture import record
from emma_viz.checkpoints import load_model, save_run_directory, save_vision_encoder
from emma_viz.errors import CheckpointError
from emma_viz.models import PRESETS, VLM

INSTRUCTED = "tiny-emma-text-fusion"
"""The one that reads its prompt by CLIP's text encoder, too."""
TINY = [name for name in PRESETS if name.startswith("tiny-")]


def written(name: str, folder, *, encoder: str | None = None):
    """A preset's model of random weights, and where it and its encoder were saved."""
    torch.manual_seed(0)
    config = PRESETS[name]()
    vision = replace(config.vision, backbone_id=encoder or config.vision.backbone_id)
    vlm = VLM(replace(config, vision=vision), backend="torch").eval()
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


def test_the_tiny_reader_of_instructions_reads_letters_and_nothing_past_its_encoder(tmp_path):
    vlm, folder, encoder = written(INSTRUCTED, tmp_path)
    reader = load_model(folder, vision_source=encoder, backend="torch").vlm.reader
    assert vlm.config.vision.text is not None
    assert reader.rows <= vlm.config.vision.text.vocab_size
    one, same, other, long = reader.encode(["Is it?", "is IT 3!", "is in", "is it there or elsewhere"])
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.tolist() == [1, 11, 47, 11, 48, 2, *[0] * 6]
    assert (len(long), long[-1]) == (12, reader.end)


def test_an_encoder_of_somebody_needs_a_tokenizer_beside_the_model(tmp_path):
    _, folder, encoder = written(INSTRUCTED, tmp_path, encoder="mine")
    with pytest.raises(CheckpointError, match=r"has no instruction-tokenizer\.json"):
        load_model(folder, vision_source=encoder)
