"""The examples in docs/extending/add-a-model.md work as printed."""

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional

from emma_viz.capture import record
from emma_viz.checkpoints import LoadedModel, inspect, load_model
from emma_viz.checkpoints.model_files import described_kind
from emma_viz.errors import CheckpointError, InputError
from emma_viz.models import VLM
from emma_viz.models.families.family import lead_of
from emma_viz.models.families.table import family_named
from emma_viz.models.peers.table import PEERS, peer_named, peer_of
from emma_viz.session.catalogue import families_table, peers_table
from tests.families import contract
from tests.installed import install
from tests.tiny_model import tiny_tokenizer

PAGE = Path(__file__).parents[2] / "docs" / "extending" / "add-a-model.md"
CONFIG = {"model_type": "toy-vlm", "encoder": "tiny-dinosiglip-60px", "language_model": "pocket-mamba1"}


@pytest.fixture(scope="module")
def examples():
    return re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)


@pytest.fixture(scope="module")
def entry_point():
    """The group and the line of the package's pyproject.toml, as printed."""
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    (group, points) = tomllib.loads(text)["project"]["entry-points"].popitem()
    ((name, place),) = points.items()
    return group, f"{name} = {place}"


@pytest.fixture
def toy_folder(examples, entry_point, tmp_path, monkeypatch):
    """The toy family installed, and a checkpoint in its own form."""
    install(tmp_path, monkeypatch, "toy", examples[1], *entry_point)
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
    (row,) = (line for line in families_table().splitlines() if line.startswith("| toy |"))
    assert row.endswith("| by its own package |  |")  # it says nothing of what is missing
    model = load_model(toy_folder, vision_source=str(toy_folder.parent / "encoder.safetensors"))
    assert (model.info.family, model.info.fingerprint) == ("toy", found.fingerprint)
    trace = record(model, Image.new("RGB", (90, 50)), "Why?", sites=["resid_post", "B"], max_new_tokens=2)
    assert trace["resid_post", 2].shape == (1, 16, 112)
    assert trace.geometry[0].strategy == "resize-crop"
    assert model.tokenizer.encode("Q: Why? A:") == list(trace.prompt_ids[0])


@pytest.fixture
def toy(toy_folder):
    return load_model(toy_folder, vision_source=str(toy_folder.parent / "encoder.safetensors"))


@torch.no_grad()
def test_its_logits_are_those_of_transformers_own_mamba(toy, toy_folder):
    """Of the file's own names, eye and brain; the head is the embedding."""
    from transformers import MambaConfig, MambaForCausalLM

    state, sizes = load_file(toy_folder / "model.safetensors"), toy.config.llm
    hub = MambaForCausalLM(
        MambaConfig(hidden_size=sizes.d_model, num_hidden_layers=sizes.n_layer, state_size=sizes.d_state,
                    vocab_size=len(state["brain.embedding.weight"]), eos_token_id=None)
    ).eval()  # fmt: skip
    names = {"brain.embedding.": "backbone.embeddings.", "brain.": "backbone."}
    for ours, theirs in names.items():
        state = {re.sub(f"^{ours}", theirs, key): value for key, value in state.items()}
    eye = {key: state.pop(key) for key in list(state) if key.startswith("eye.")}
    hub.load_state_dict(state | {"lm_head.weight": state["backbone.embeddings.weight"]})
    features, ids = torch.randn(1, 16, toy.config.vision.width), torch.randint(258, (1, 9))
    hidden = functional.gelu(functional.linear(features, eye["eye.0.weight"], eye["eye.0.bias"]))
    tokens = functional.linear(hidden, eye["eye.2.weight"], eye["eye.2.bias"])
    theirs = hub(inputs_embeds=torch.cat([tokens, hub.get_input_embeddings()(ids)], dim=1)).logits
    ours = toy.vlm(None, ids, features=features, logits="all").logits
    assert (ours - theirs).norm() < 1e-4 * theirs.norm()


def test_its_geometry_goes_there_and_back(toy):
    for size in [(90, 40), (32, 70), (48, 48)]:
        contract.geometry_there_and_back(toy, Image.new("RGB", size))


@pytest.mark.slow
def test_quick_probes_take_it_as_any_other(toy, tmp_path):
    contract.quick_probes(toy, tmp_path, ours=True)


@pytest.mark.slow
def test_lens_figure_and_page_take_it_as_any_other(toy, tmp_path):
    draw = np.random.default_rng(0).integers(0, 256, (12, 40, 50, 3), dtype=np.uint8)
    contract.from_lens_to_figure_and_page(toy, toy, list(draw), tmp_path)


def test_without_its_package_the_family_is_unknown(toy_folder, monkeypatch):
    monkeypatch.setattr(
        "sys.path", [each for each in __import__("sys").path if each != str(toy_folder.parent)]
    )
    with pytest.raises(CheckpointError, match="describes no Mamba language model"):
        load_model(toy_folder)


LED = """
    image_tokens = "placeholders"

    def lead(self, config):
        return "SYSTEM: look. "

    def describe("""


def test_a_family_says_itself_what_stands_before_its_image(examples, entry_point, tmp_path, monkeypatch):
    code = examples[1].replace('    image_tokens = "first"\n', "").replace("\n    def describe(", LED)
    install(tmp_path, monkeypatch, "toy", code, *entry_point)
    family, tokenizer = family_named("toy"), tiny_tokenizer()
    config = family.describe({**CONFIG, "language_model": "tiny-attention"})
    model = LoadedModel.from_vlm(VLM(config), tokenizer, name="toy")
    assert list(model.vlm.lead) == tokenizer.encode("SYSTEM: look. ")
    plain = LoadedModel.from_vlm(VLM(replace(config, family="llava")), tokenizer, name="plain")
    assert plain.vlm.lead == ()
    with pytest.raises(InputError, match=r"'SYSTEM: look. ' before the image.*llm.ssm is mamba1"):
        lead_of(family, family.describe(CONFIG))


PEER = """
from emma_viz.models.peers.paligemma import PaliGemmaPeer


class ToyPeer(PaliGemmaPeer):
    model_types = ("toy_vl",)
    image = "a toy grid"


PEER = ToyPeer()
"""


def test_a_package_brings_a_family_that_transformers_runs(tmp_path, monkeypatch):
    config = {"model_type": "toy_vl", "vision_config": {}}
    assert described_kind(config) == "language model"
    install(tmp_path, monkeypatch, "toypeer", PEER, "emma_viz.peers", "toy-peer = toypeer:PEER")
    assert described_kind(config) == "transformers model"
    assert peer_of("toy_vl") == "toy-peer"
    assert peer_named("toy-peer").model_types == ("toy_vl",)
    assert "| toy-peer | toy_vl | a toy grid |" in peers_table()
    assert "toy_vl" not in [kind for peer in PEERS.values() for kind in peer.model_types]
    with pytest.raises(InputError, match="no family of transformers' models 'none'"):
        peer_named("none")
