"""Weights that no model computes with are named as what they are, by `inspect` and by `load_model` alike."""

import json

import pytest
import torch

from benchmarks.hostile.inputs.checkpoint_pickles import quantised
from emma_viz.checkpoints import inspect, load_model
from emma_viz.cli.main import main
from emma_viz.errors import CheckpointError

KEY = "llm_backbone.llm.backbone.layers.1.mixer.D"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weight: torch.full_like(weight, float("nan")), "holds values that are not finite"),
        (
            lambda weight: weight.index_fill(0, torch.tensor([7]), float("inf")),
            "holds values that are not finite",
        ),
        (lambda weight: weight.to(torch.int64), r"integers \(int64\)"),
        (lambda weight: weight.to(torch.bool), r"integers \(bool\)"),
        (lambda weight: weight.to(torch.complex64), r"complex numbers \(complex64\)"),
        (lambda weight: weight.to(torch.float8_e4m3fn), r"quantised numbers \(float8_e4m3fn\)"),
        (lambda weight: weight.to(torch.uint16), r"integers \(uint16\)"),
    ],
)
def test_values_that_are_no_weights(change, message, run_directory, encoder_file):
    def put(state, _):
        key = KEY.removeprefix("llm_backbone.")
        state["llm_backbone"][key] = change(state["llm_backbone"][key])

    folder = run_directory(change=put)
    found = inspect(folder)
    assert any(word in problem for problem in found.problems for word in [message.split("\\")[0]]), (
        found.problems
    )
    with pytest.raises(CheckpointError, match=message):
        load_model(folder, vision_source=encoder_file)


@pytest.mark.parametrize("mark", [".absmax", ".SCB", ".qweight", ".weight_scale_inv"])
def test_a_quantised_file_is_called_so(mark, run_directory, encoder_file):
    def put(state, _):
        state["llm_backbone"][f"llm.backbone.layers.1.mixer.in_proj.weight{mark}"] = torch.ones(3)

    folder = run_directory(change=put)
    assert any("The weights are quantised" in problem for problem in inspect(folder).problems)
    with pytest.raises(CheckpointError, match="The weights are quantised"):
        load_model(folder, vision_source=encoder_file)


def test_a_quantised_pickle_and_config_are_called_so(run_directory, tmp_path):
    def put(state, _):
        state["llm_backbone"]["llm.backbone.layers.1.mixer.D"] = quantised(torch.ones(4))

    with pytest.raises(CheckpointError, match="It belongs to a quantised model"):
        inspect(run_directory(change=put))
    config = {"model_type": "mamba", "hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 8}
    (tmp_path / "config.json").write_text(json.dumps({**config, "quantization_config": {"bits": 4}}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="the model is quantised"):
        inspect(tmp_path)


def test_inspect_looks_at_what_loading_needs(run_directory, encoder_file):
    def put(state, _):
        head = state["llm_backbone"]["llm.lm_head.weight"].clone()
        head[3, 3] += 1
        state["llm_backbone"]["llm.lm_head.weight"] = head

    folder = run_directory(change=put)
    assert any("differs from" in problem for problem in inspect(folder).problems)
    other = run_directory("emma-v1-3b")
    assert inspect(other).problems == ()
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["evil"] = 2**31
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert any("ids up to 2147483648" in problem for problem in inspect(other).problems)
    with pytest.raises(CheckpointError, match="ids up to 2147483648"):
        load_model(other, vision_source=encoder_file)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False},
        {
            "type": "Sequence",
            "pretokenizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}],
        },
    ],
)
@pytest.mark.parametrize("place", ["pre_tokenizer", "decoder"])
def test_a_tokenizer_that_runs_patterns_of_its_own_is_refused(part, place, run_directory):
    folder = run_directory()
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    if place == "decoder":
        part = {"type": "Sequence", "decoders": [{"type": "Fuse"}, *part.get("pretokenizers", [part])]}
    (folder / "tokenizer.json").write_text(json.dumps({**tokenizer, place: part}))
    with pytest.raises(CheckpointError, match="such a tokenizer is not run"):
        load_model(folder)


def test_a_model_that_the_machine_cannot_hold_is_refused(run_directory, encoder_file, monkeypatch):
    monkeypatch.setattr("emma_viz.checkpoints.materialize._memory", lambda: 1000)
    with pytest.raises(
        CheckpointError, match=r"The weights need .* GB as float32; this machine has 1e-06 GB"
    ):
        load_model(run_directory(), vision_source=encoder_file)


def test_a_large_file_is_sampled_and_says_so_and_all_of_it_is_looked_at_when_asked(
    run_directory, encoder_file, monkeypatch, capsys
):
    def put(state, _):
        state["llm_backbone"]["llm.backbone.layers.1.mixer.in_proj.weight"].view(-1)[1] = float("nan")

    folder = run_directory(change=put)
    assert inspect(folder).problems
    monkeypatch.setattr("emma_viz.checkpoints.inspection.READ_WHOLE", 0)
    found = inspect(folder)
    assert not found.problems
    assert "a sample of them looked at (32 of each tensor); loading looks at all" in found.to_text()
    with pytest.raises(CheckpointError, match="not finite"):
        load_model(folder, vision_source=encoder_file)
    assert any("not finite" in problem for problem in inspect(folder, all_values=True).problems)
    assert main(["inspect", str(folder)]) == 0
    assert "as --all-values does" in capsys.readouterr().out
    assert main(["inspect", str(folder), "--all-values"]) == 1
    assert "not finite" in capsys.readouterr().out
