"""Marks of image encoders and tokenizers: from files as from memory, and nothing is downloaded for them."""

import json
from dataclasses import replace

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from emma_viz.checkpoints import load_model
from emma_viz.checkpoints.beside import encoder_key, stored_marks
from emma_viz.checkpoints.vision import local_encoders
from emma_viz.errors import CheckpointError
from emma_viz.models import PRESETS
from emma_viz.models.towers.vision import VisionEncoder
from tests.checkpoints.test_vision_weights import published

pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_mark_from_files_is_that_of_the_loaded_model(run_directory, encoder_file, dtype):
    folder = run_directory()
    model = load_model(folder, vision_source=encoder_file, dtype=dtype)
    assert stored_marks(folder, vision_source=encoder_file) == {
        "image encoder": encoder_key(model.vlm),
        "tokenizer": model.tokenizer.fingerprint,
    }


def test_a_mark_does_not_depend_on_how_the_encoder_is_stored(run_directory, encoder_file, tmp_path):
    """One file of ours, or each tower in the layout of transformers."""
    folder, encoder = run_directory(), VisionEncoder(PRESETS["tiny-cobra"]().vision)
    encoder.load_state_dict(load_file(encoder_file))
    towers = published(encoder, tmp_path, older=True)
    assert stored_marks(folder, vision_source=towers) == stored_marks(folder, vision_source=encoder_file)


def test_a_position_table_that_is_resampled_counts_as_it_is_put_in(run_directory, tmp_path):
    folder = run_directory()
    towers = published(VisionEncoder(PRESETS["tiny-cobra"]().vision), tmp_path)
    path = towers["siglip"] / "model.safetensors"
    state = load_file(path)
    name = "vision_model.embeddings.position_embedding.weight"
    save_file({**state, name: torch.randn(9, state[name].shape[1])}, path)
    model = load_model(folder, vision_source=towers)
    assert stored_marks(folder, vision_source=towers)["image encoder"] == encoder_key(model.vlm)


def test_other_values_or_another_tokenizer_have_other_marks(run_directory, encoder_file, tmp_path):
    folder = run_directory()
    state = load_file(encoder_file)
    save_file({name: value + 1 for name, value in state.items()}, tmp_path / "other.safetensors")
    words = json.loads((folder / "tokenizer.json").read_text())
    words["added_tokens"][-1]["content"] += "x"
    (tmp_path / "other.json").write_text(json.dumps(words))
    plain = stored_marks(folder, vision_source=encoder_file)
    for other, differs in (
        ({"vision_source": tmp_path / "other.safetensors"}, "image encoder"),
        ({"vision_source": encoder_file, "tokenizer_source": tmp_path / "other.json"}, "tokenizer"),
    ):
        found = stored_marks(folder, **other)
        assert {name for name, mark in found.items() if mark != plain[name]} == {differs}


def test_what_is_not_here_has_no_mark_and_is_not_downloaded(run_directory, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", None)
    folder = run_directory()
    assert stored_marks(folder).keys() == {"tokenizer"}  # nobody publishes the tiny encoders
    (folder / "tokenizer.json").unlink()
    assert stored_marks(folder) == {}
    assert local_encoders(PRESETS["cobra-3b"]().vision) is None


@pytest.mark.parametrize("lacking", [None, "siglip", "shard"])
def test_what_the_cache_has_is_read_without_asking_the_hub(cached, tmp_path, monkeypatch, lacking):
    """One tower in shards, the other as CLIP's repository has it; of each, all or nothing."""
    encoder = VisionEncoder(PRESETS["tiny-cobra"]().vision)
    towers = [replace(each, hub_id=f"someone/{each.kind}") for each in encoder.config.towers]
    config = replace(encoder.config, towers=tuple(towers))
    folders = published(encoder, tmp_path)
    there = {"dinov2": folders["dinov2"] / "model.safetensors", "siglip": tmp_path / "pytorch_model.bin"}
    torch.save(load_file(folders["siglip"] / "model.safetensors"), there["siglip"])
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"weight_map": dict.fromkeys(load_file(there["dinov2"]), "part.safetensors")})
    )
    shards = {} if lacking == "shard" else {"part.safetensors": there["dinov2"]}
    cached("someone/dinov2", {index.name: index, **shards})
    if lacking != "siglip":
        cached("someone/siglip", {"pytorch_model.bin": there["siglip"]})
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", None)
    found = local_encoders(config)
    if lacking is not None:
        assert found is None
        return
    expected = encoder.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(each.read(dtype=torch.float32), expected[name]) for name, each in found.items())
    # What the user names takes the place of what would be looked for.
    assert local_encoders(config, {"siglip": folders["siglip"]}).keys() == expected.keys()


def test_the_encoder_of_the_bundled_models_is_here():
    model = load_model("cobra-pocket")
    assert stored_marks("cobra-pocket")["image encoder"] == encoder_key(model.vlm)


def test_an_encoder_that_is_named_is_read(run_directory, tmp_path):
    folder = run_directory()
    with pytest.raises(CheckpointError, match="nothing"):
        stored_marks(folder, vision_source=tmp_path / "nothing.safetensors")
