"""The examples in docs/extending/add-a-model.md work as printed."""

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from emma_viz.capture import record
from emma_viz.checkpoints import inspect, load_model
from emma_viz.errors import CheckpointError
from emma_viz.models import VLM
from emma_viz.models.families.table import family_named
from tests.installed import install

CONFIG = {"model_type": "toy-vlm", "encoder": "tiny-dinosiglip-60px", "language_model": "pocket-mamba1"}


@pytest.fixture(scope="module")
def examples():
    page = Path(__file__).parents[2] / "docs" / "extending" / "add-a-model.md"
    return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)


@pytest.fixture
def toy_folder(examples, tmp_path, monkeypatch):
    """The toy family installed, and a checkpoint in its own form."""
    install(tmp_path, monkeypatch, "toy", examples[1], "emma_viz.families", "toy = toy:TOY")
    family = family_named("toy")
    torch.manual_seed(3)
    vlm = VLM(family.describe(CONFIG))
    tensors = {
        family.layout.file_key(name): tensor.clone()
        for name, tensor in vlm.state_dict().items()
        if not name.startswith("vision.") and "lm_head" not in name
    }
    folder = tmp_path / "a-toy"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file(vlm.vision.state_dict(), tmp_path / "encoder.safetensors")
    return folder


def test_the_documented_example_builds_a_model(examples):
    names = {}
    exec(examples[0], names)
    model = names["model"]
    output = model(tuple(torch.randn(1, 3, 60, 60) for _ in range(2)), torch.tensor([[1, 2]]))
    assert output.hidden.shape == (1, 16 + 2, 64)


def test_the_documented_family_is_loaded_inspected_and_recorded(toy_folder):
    found = inspect(toy_folder)
    assert (found.layout, found.problems) == ("toy", ())
    model = load_model(toy_folder, vision_source=str(toy_folder.parent / "encoder.safetensors"))
    assert (model.info.family, model.info.fingerprint) == ("toy", found.fingerprint)
    trace = record(model, Image.new("RGB", (90, 50)), "Why?", sites=["resid_post", "B"], max_new_tokens=2)
    assert trace["resid_post", 2].shape == (1, 16, 112)
    assert trace.geometry[0].strategy == "resize-crop"
    assert model.tokenizer.encode("Q: Why? A:") == list(trace.prompt_ids[0])


def test_without_its_package_the_family_is_unknown(toy_folder, monkeypatch):
    monkeypatch.setattr(
        "sys.path", [each for each in __import__("sys").path if each != str(toy_folder.parent)]
    )
    with pytest.raises(CheckpointError, match="describes no Mamba language model"):
        load_model(toy_folder)
