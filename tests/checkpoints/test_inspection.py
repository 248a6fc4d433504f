"""Looking at checkpoints: the paper's Table 7 at full size from headers alone, and honest words on what is missing."""

import json
import math

import pytest
import torch
from torch import nn

from emma_viz.checkpoints import Component, inspect, save_run_directory
from emma_viz.checkpoints.inspection import compact
from emma_viz.checkpoints.readers.tensors import TensorRef
from emma_viz.checkpoints.run_config import run_config
from emma_viz.models import PRESETS

LLM = {"cobra-3b": 2_768_345_600, "emma-v1-3b": 2_768_345_600, "emma-v2-3b": 2_702_599_680}


@pytest.fixture
def full_size(tmp_path, request):
    """A run directory with the released keys and shapes; the values are a hole in the file."""

    def write(name: str, dtype="BF16", size=2):
        keys = json.loads((request.path.parents[1] / "data" / "keys" / f"{name}.json").read_text())
        header, end = {}, 0
        for component, shapes in keys.items():
            for key, shape in shapes.items():
                if key != "llm.lm_head.weight":
                    begin, end = end, end + size * math.prod(shape)
                    header[f"{component}.{key}"] = {
                        "dtype": dtype,
                        "shape": shape,
                        "data_offsets": [begin, end],
                    }
        folder = tmp_path / name
        (folder / "checkpoints").mkdir(parents=True)
        config = {"model": run_config(PRESETS[name]())["model"]}
        (folder / "config.json").write_text(json.dumps(config))
        text = json.dumps(header).encode()
        with (folder / "checkpoints" / "latest-checkpoint.safetensors").open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + end)
        return folder

    return write


@pytest.mark.parametrize("name", sorted(LLM))
def test_table_7_from_headers_alone(name, full_size, monkeypatch):
    def never(*_, **__):
        raise AssertionError("inspect must not read tensors")

    monkeypatch.setattr(TensorRef, "read", never)
    found = inspect(full_size(name))
    parts = {part.name: part.parameters for part in found.components}
    assert parts["projector"] == 47_789_568
    assert parts["language model"] == LLM[name]
    assert parts["vision encoder"] // 10**6 == 731
    assert found.problems == ()
    assert found.stored_bytes == 2 * (LLM[name] + 47_789_568)
    text = found.to_text()
    assert "47.8M" in text
    assert ("2.703B" if name == "emma-v2-3b" else "2.768B") in text
    assert "731.9M" in text
    assert "27×27" in text
    assert "facebook/dinov2-with-registers-large" in text


def test_an_archive_tells_what_is_beside_the_model(run_directory):
    optimizer = torch.optim.AdamW([nn.Parameter(torch.ones(2))])
    found = inspect(run_directory(extra={"optimizer": optimizer, "epoch": 3}))
    assert found.extras == ("optimizer: torch.optim.adamw.AdamW", "epoch: int")
    assert found.format == "PyTorch zip archive"
    assert found.layout == "Cobra / EMMA"
    assert "torch.optim.adamw.AdamW" in found.to_text()


def test_a_tied_head_counts_once(run_directory, small_vlm, tmp_path):
    folder = run_directory()
    saved = torch.load(folder / "checkpoints" / "latest-checkpoint.pt", weights_only=True)["model"][
        "llm_backbone"
    ]
    count = sum(tensor.numel() for key, tensor in saved.items() if "lm_head" not in key)
    assert {part.name: part.parameters for part in inspect(folder).components}["language model"] == count
    vlm = small_vlm()
    texts = {
        format: inspect(save_run_directory(tmp_path / format, vlm.config, vlm.state_dict(), format=format))
        for format in ("pt", "safetensors")
    }
    assert texts["pt"].components == texts["safetensors"].components
    assert texts["pt"].fingerprint == texts["safetensors"].fingerprint
    assert texts["pt"].stored_bytes == texts["safetensors"].stored_bytes


def test_a_file_that_does_not_fit_is_described_with_the_reasons(run_directory):
    def change(state, _):
        state["llm_backbone"]["llm.backbone.norm_g.weight"] = state["llm_backbone"].pop(
            "llm.backbone.norm_f.weight"
        )

    found = inspect(run_directory(change=change))
    assert found.fingerprint is None
    assert "missing (1):" in found.problems
    assert "llm_backbone.llm.backbone.norm_f.weight" in found.problems
    assert "llm_backbone.llm.backbone.norm_g.weight" in found.problems
    assert "the keys do not fit" in found.to_text()


def test_a_projector_alone_and_a_file_without_config(run_directory, tmp_path):
    folder = run_directory(change=lambda state, _: state.pop("llm_backbone"))
    found = inspect(folder)
    assert found.problems == ()
    assert "language model: pass llm_source" in found.missing
    alone = tmp_path / "alone.pt"
    (folder / "checkpoints" / "latest-checkpoint.pt").rename(alone)
    unknown = inspect(alone)
    assert unknown.architecture.startswith("unknown: no config.json")
    assert unknown.fingerprint is None
    assert [part.name for part in unknown.components] == ["projector"]


def test_a_language_model_alone(tmp_path):
    from emma_viz.models import MambaLM

    llm = PRESETS["tiny-emma-v2"]().llm
    state = {key: tensor for key, tensor in MambaLM(llm).state_dict().items() if key != "lm_head.weight"}
    config = {
        "d_model": llm.d_model,
        "n_layer": llm.n_layer,
        "vocab_size": llm.vocab_size,
        "pad_vocab_size_multiple": llm.pad_vocab_size_multiple,
        "ssm_cfg": {"layer": "Mamba2", "d_state": llm.d_state, "headdim": llm.headdim},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save(state, tmp_path / "pytorch_model.bin")
    found = inspect(tmp_path)
    assert found.layout == "state-spaces"
    assert found.problems == ()
    assert found.config == llm
    assert found.missing == (
        "projector and vision encoder: this is a language model alone (load_language_model)",
        "tokenizer: comes from the hub: EleutherAI/gpt-neox-20b; or pass tokenizer_source",
    )


def test_others_may_add_what_they_know(run_directory):
    found = inspect(run_directory("emma-v1-3b"))
    more = found.adding(
        components=[
            Component(name="MFF", parameters=265_800_000, origin="not in the file"),
            Component(
                name="cross-attention", parameters=104_900_000, origin="not in the file", part_of="MFF"
            ),
        ],
        lenses=["ridge.lens: R² 0.8"],
    )
    assert more.components[: len(found.components)] == found.components
    text = more.to_text()
    assert "265.8M" in text
    assert any(line.startswith("      cross-attention") and "104.9M" in line for line in text.splitlines())
    assert text.endswith("lenses\n    ridge.lens: R² 0.8")
    assert found.lenses == ()


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (999, "999"),
        (1500, "1.5K"),
        (47_789_568, "47.8M"),
        (2_768_345_600, "2.768B"),
        (2_702_599_680, "2.703B"),
    ],
)
def test_numbers_read_as_in_the_paper(count, text):
    assert compact(count) == text
