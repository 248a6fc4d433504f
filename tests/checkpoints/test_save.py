"""Run directories that are written: whole or not at all, and readable by the official code's own call."""

import json
import os
import stat
from dataclasses import replace

import pytest
import torch

from emma_viz.checkpoints import load_model, save, save_run_directory, save_vision_encoder
from emma_viz.checkpoints.fingerprint import fingerprint
from emma_viz.data.tokenizer import Tokenizer
from emma_viz.errors import CheckpointError, KeyMismatchError


@pytest.fixture
def model(small_vlm, tmp_path, tokenizer_file):
    """(model, its tokenizer, file of its encoders)."""
    vlm = small_vlm("tiny-emma-v2")
    return vlm, Tokenizer.load(tokenizer_file), save_vision_encoder(tmp_path / "e.safetensors", vlm.vision)


@pytest.mark.parametrize("format", ["safetensors", "pt"])
def test_a_model_comes_back_bit_for_bit(format, model, tmp_path):
    vlm, tokenizer, encoder = model
    folder = save_run_directory(
        tmp_path / "run",
        vlm.config,
        vlm.state_dict(),
        format=format,
        tokenizer=tokenizer,
        provenance={"steps": 12},
    )
    loaded = load_model(folder, vision_source=encoder)
    assert loaded.config == vlm.config
    for key, tensor in vlm.state_dict().items():
        assert torch.equal(loaded.vlm.state_dict()[key], tensor), key
    assert loaded.info.fingerprint == fingerprint(vlm.state_dict())
    assert loaded.tokenizer.encode("a red cup") == tokenizer.encode("a red cup")
    assert json.loads((folder / "config.json").read_text())["emma_viz"]["provenance"] == {"steps": 12}
    assert sorted(path.name for path in folder.rglob("*")) == sorted(
        ["checkpoints", "config.json", f"latest-checkpoint.{format}", "tokenizer.json"]
    )


def test_a_pt_is_what_the_official_code_expects(model, tmp_path):
    vlm, *_ = model
    folder = save_run_directory(tmp_path / "run", vlm.config, vlm.state_dict(), format="pt")
    state = torch.load(folder / "checkpoints" / "latest-checkpoint.pt", weights_only=True)["model"]
    assert sorted(state) == ["llm_backbone", "projector"]
    assert all(key.startswith("projector.") for key in state["projector"])
    assert next(iter(state["llm_backbone"])) == "llm.backbone.embedding.weight"
    table, head = (
        state["llm_backbone"][key] for key in ("llm.backbone.embedding.weight", "llm.lm_head.weight")
    )
    assert table.data_ptr() == head.data_ptr()
    config = json.loads((folder / "config.json").read_text())["model"]
    assert config["arch_specifier"] == "no-align+fused-gelu-mlp"
    assert config["image_resize_strategy"] == "resize-naive"


def test_a_safetensors_file_carries_its_description(model, tmp_path, tokenizer_file):
    vlm, _, encoder = model
    folder = save_run_directory(tmp_path / "run", vlm.config, vlm.state_dict())
    alone = tmp_path / "alone.safetensors"
    (folder / "checkpoints" / "latest-checkpoint.safetensors").rename(alone)
    loaded = load_model(alone, vision_source=encoder, tokenizer_source=tokenizer_file)
    assert loaded.config == vlm.config
    assert loaded.name == "alone"


def test_half_precision_keeps_the_tie_and_halves_the_file(model, tmp_path):
    vlm, _, _encoder = model
    sizes = {}
    for dtype in ("float32", "float16"):
        for format in ("safetensors", "pt"):
            folder = save_run_directory(
                tmp_path / dtype / format, vlm.config, vlm.state_dict(), dtype=dtype, format=format
            )
            sizes[dtype, format] = next(folder.glob("checkpoints/*")).stat().st_size
    table = vlm.llm.backbone.embedding.weight.nbytes
    assert (
        sizes["float32", "safetensors"] - sizes["float16", "safetensors"]
        > 0.4 * sizes["float32", "safetensors"]
    )
    parameters = sum(p.nbytes for name, p in vlm.named_parameters() if not name.startswith("vision."))
    assert sizes["float32", "pt"] < parameters + table // 2 + 40_000  # the tied head is not there twice


@pytest.mark.parametrize("format", ["safetensors", "pt"])
def test_files_have_the_rights_that_the_umask_gives(format, model, tmp_path):
    vlm, _, _ = model
    umask = os.umask(0o027)
    try:
        save_run_directory(tmp_path / "run", vlm.config, vlm.state_dict(), format=format)
    finally:
        os.umask(umask)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(files) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o640}


def test_views_are_saved_alone(model, tmp_path):
    """A slice of a large tensor must not drag the whole of it into the file."""
    vlm, _, _encoder = model
    state = vlm.state_dict()
    key = "llm.backbone.norm_f.weight"
    state[key] = torch.randn(100_000)[:32]
    for format in ("safetensors", "pt"):
        folder = save_run_directory(tmp_path / format, vlm.config, state, format=format)
        assert next(folder.glob("checkpoints/*")).stat().st_size < 400_000


def test_a_state_that_does_not_fit_is_refused(model, tmp_path):
    vlm, *_ = model
    state = vlm.state_dict()
    state["mff.weight"] = torch.zeros(1)
    del state["llm.backbone.norm_f.weight"]
    state["projector.projector.0.bias"] = torch.zeros(2)
    with pytest.raises(KeyMismatchError) as caught:
        save_run_directory(tmp_path / "run", vlm.config, state)
    assert caught.value.unknown == ("mff.weight",)
    assert caught.value.missing == ("llm.backbone.norm_f.weight",)
    assert caught.value.misshapen == ("projector.projector.0.bias: (2,), expected (160,)",)
    assert not (tmp_path / "run").exists()


def test_one_format_a_directory(model, tmp_path):
    vlm, *_ = model
    save_run_directory(tmp_path / "run", vlm.config, vlm.state_dict(), format="pt")
    with pytest.raises(CheckpointError, match="holds one format"):
        save_run_directory(tmp_path / "run", vlm.config, vlm.state_dict())


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fails_after_writing(monkeypatch, name, error):
    """Let one of the writers write half of its file and then fail."""

    def half(path, *_):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(save, name, half)


@pytest.mark.parametrize("writer", ["_write_safetensors", "_write_text"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interruption_leaves_what_was_there(writer, error, model, tmp_path, monkeypatch):
    vlm, tokenizer, _ = model
    folder = save_run_directory(tmp_path / "run", vlm.config, vlm.state_dict(), tokenizer=tokenizer)
    (folder / "notes.txt").write_text("mine")
    before = contents(folder)
    changed = {key: tensor + 1 for key, tensor in vlm.state_dict().items()}
    changed["llm.lm_head.weight"] = changed["llm.backbone.embedding.weight"]
    with monkeypatch.context() as patch:
        fails_after_writing(patch, writer, error)
        with pytest.raises((CheckpointError, KeyboardInterrupt), match=r"No space left|^$"):
            save_run_directory(folder, replace(vlm.config, model_id="other"), changed)
    assert contents(folder) == before
    save_run_directory(folder, replace(vlm.config, model_id="other"), changed)
    after = contents(folder)
    assert set(after) == set(before)
    assert after["notes.txt"] == b"mine"
    assert all(
        after[name] != before[name] for name in before if name.endswith((".safetensors", "config.json"))
    )


def test_a_full_disk_is_a_checkpoint_error(model, tmp_path, monkeypatch):
    vlm, *_ = model

    def full(*_):
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=r"Cannot write .*file write failed"):
        save_run_directory(tmp_path / "run", vlm.config, vlm.state_dict(), format="pt")
    assert contents(tmp_path / "run") == {}
