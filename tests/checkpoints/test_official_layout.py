"""Run directories in the official layout, with exactly the released keys, at reduced width."""

import json

import pytest
import torch
from torch import nn

from emma_viz.checkpoints import load_language_model, load_model
from emma_viz.checkpoints.readers.files import open_weights
from emma_viz.checkpoints.readers.tensors import TensorRef
from emma_viz.errors import CheckpointError, KeyMismatchError

NAMES = ["cobra-3b", "emma-v1-3b", "emma-v2-3b"]


@pytest.mark.parametrize("name", NAMES)
def test_every_released_key_lands_on_its_parameter(name, run_directory, encoder_file):
    folder = run_directory(name, layers=64)
    saved = torch.load(folder / "checkpoints" / "latest-checkpoint.pt", weights_only=True)["model"]
    model = load_model(folder, vision_source=encoder_file)
    loaded = model.vlm.state_dict()
    for key, tensor in saved["projector"].items():
        assert torch.equal(loaded[f"projector.{key}"], tensor), key
    for key, tensor in saved["llm_backbone"].items():
        assert torch.equal(loaded[key], tensor), key
    weights = [key for key in loaded if not key.startswith("vision.")]
    assert len(weights) == (585 if name == "emma-v2-3b" else 649)
    assert len(weights) == len(saved["projector"]) + len(saved["llm_backbone"])
    assert not any(tensor.is_meta for tensor in loaded.values())


@pytest.mark.parametrize("name", NAMES)
def test_the_record_and_the_preprocessing(name, run_directory, encoder_file):
    model = load_model(run_directory(name), vision_source=encoder_file)
    info = model.info
    assert model.name == info.name == name
    assert info.family == name.split("-")[0]
    assert info.ssm == ("mamba2" if "v2" in name else "mamba1")
    assert (info.n_layer, info.d_model, info.grid, info.dtype) == (4, 32, (4, 4), "float32")
    assert info.taps == (() if name == "cobra-3b" else (1, 2, 3))
    assert info.prompt_style == ("in-out" if "v2" in name else "zephyr")
    question = "In: Why?\nOut: " if "v2" in name else "<|user|>\nWhy?<|endoftext|>\n<|assistant|>\n"
    assert model.prompt("Why?") == question
    assert (model.transform.strategy, model.transform.size, model.transform.grid) == (
        "resize-naive",
        60,
        (4, 4),
    )
    assert [tower.name for tower in model.transform.towers] == ["dinov2", "siglip"]
    assert not model.vlm.training


def test_a_loaded_model_runs(run_directory, encoder_file):
    model = load_model(run_directory("emma-v2-3b"), vision_source=encoder_file)
    pixels = tuple(torch.randn(1, 3, 60, 60) for _ in model.transform.towers)
    ids = torch.tensor([model.tokenizer.encode("a cup")])
    with torch.inference_mode():
        output = model.vlm(pixels, ids)
    assert output.logits.shape[-1] == 640
    assert output.logits.isfinite().all()


def test_the_head_stays_tied(run_directory, encoder_file):
    vlm = load_model(run_directory(), vision_source=encoder_file).vlm
    assert vlm.llm.lm_head.weight is vlm.llm.backbone.embedding.weight


def test_a_file_without_head_loads(run_directory, encoder_file):
    folder = run_directory(change=lambda state, _: state["llm_backbone"].pop("llm.lm_head.weight"))
    vlm = load_model(folder, vision_source=encoder_file).vlm
    assert vlm.llm.lm_head.weight is vlm.llm.backbone.embedding.weight


def test_a_head_saved_apart_must_equal_the_embedding(run_directory, encoder_file):
    def copy(state, _):
        state["llm_backbone"]["llm.lm_head.weight"] = state["llm_backbone"]["llm.lm_head.weight"].clone()

    load_model(run_directory("cobra-3b", change=copy), vision_source=encoder_file)

    def change(state, config):
        copy(state, config)
        state["llm_backbone"]["llm.lm_head.weight"][-1, -1] += 1

    with pytest.raises(
        CheckpointError, match=r"llm_backbone\.llm\.lm_head\.weight differs from llm_backbone\.llm\."
    ):
        load_model(run_directory("emma-v1-3b", change=change), vision_source=encoder_file)


def test_the_model_part_of_an_fsdp_file_with_pickled_objects(run_directory, encoder_file):
    from transformers.optimization import get_cosine_schedule_with_warmup

    module = nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(
        [{"params": [module.weight]}, {"params": [module.bias], "weight_decay": 0.0}]
    )
    scheduler = get_cosine_schedule_with_warmup(optimizer, 2, 10)
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    scheduler.step()
    plain = load_model(run_directory("cobra-3b"), vision_source=encoder_file)
    folder = run_directory("emma-v1-3b", extra={"scheduler": scheduler, "optimizer": optimizer})
    model = load_model(folder, vision_source=encoder_file)
    assert model.info.fingerprint == plain.info.fingerprint


def test_the_state_dict_of_a_ddp_optimizer_is_passed_over(run_directory, encoder_file):
    module = nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    plain = load_model(run_directory("cobra-3b"), vision_source=encoder_file)
    folder = run_directory("emma-v1-3b", extra={"optimizer": optimizer.state_dict()})
    model = load_model(folder, vision_source=encoder_file)
    assert model.info.fingerprint == plain.info.fingerprint


def rename(state, _):
    keys = state["llm_backbone"]
    keys["llm.backbone.layers.2.mixer.A_logs"] = keys.pop("llm.backbone.layers.2.mixer.A_log")


def drop(state, _):
    del state["projector"]["projector.2.bias"], state["llm_backbone"]["llm.backbone.norm_f.weight"]


def reshape(state, _):
    state["projector"]["projector.4.weight"] = torch.zeros(32, 31)


def add(state, _):
    state["mff"] = {"q.weight": torch.zeros(1)}
    state["llm_backbone"]["step"] = 5


@pytest.mark.parametrize(
    ("change", "missing", "unknown", "misshapen"),
    [
        (
            rename,
            ["llm_backbone.llm.backbone.layers.2.mixer.A_log"],
            ["llm_backbone.llm.backbone.layers.2.mixer.A_logs"],
            [],
        ),
        (drop, ["llm_backbone.llm.backbone.norm_f.weight", "projector.projector.2.bias"], [], []),
        (reshape, [], [], ["projector.projector.4.weight: 32×31, expected 32×32"]),
        (add, [], ["llm_backbone.step (int, not a tensor)", "mff.q.weight"], []),
    ],
)
def test_every_key_that_does_not_fit_is_named(
    change, missing, unknown, misshapen, run_directory, encoder_file
):
    with pytest.raises(KeyMismatchError) as caught:
        load_model(run_directory(change=change), vision_source=encoder_file)
    assert sorted(caught.value.missing) == missing
    assert sorted(caught.value.unknown) == unknown
    assert sorted(caught.value.misshapen) == misshapen
    for key in [*missing, *unknown, *misshapen]:
        assert key in str(caught.value)
    assert "config.json" in str(caught.value)


def test_a_head_of_another_shape_is_named(run_directory, encoder_file):
    def change(state, _):
        state["llm_backbone"]["llm.lm_head.weight"] = torch.zeros(639, 32)

    with pytest.raises(KeyMismatchError, match=r"llm\.lm_head\.weight: 639×32, expected 640×32"):
        load_model(run_directory(change=change), vision_source=encoder_file)


def test_a_projector_alone_takes_its_language_model_from_elsewhere(run_directory, encoder_file, tmp_path):
    whole = run_directory("emma-v1-3b")
    align = run_directory("cobra-3b", change=lambda state, _: state.pop("llm_backbone"))
    with pytest.raises(
        KeyMismatchError, match="holds a projector alone; pass the language model as llm_source"
    ):
        load_model(align, vision_source=encoder_file)
    composed = load_model(align, vision_source=encoder_file, llm_source=whole)
    assert composed.info.fingerprint == load_model(whole, vision_source=encoder_file).info.fingerprint
    with pytest.raises(CheckpointError, match="holds a language model of its own; leave llm_source out"):
        load_model(whole, vision_source=encoder_file, llm_source=whole)


def test_the_language_model_inside_a_run_directory(run_directory):
    folder = run_directory("emma-v2-3b")
    saved = torch.load(folder / "checkpoints" / "latest-checkpoint.pt", weights_only=True)["model"][
        "llm_backbone"
    ]
    loaded = load_language_model(folder)
    assert loaded.info.family == "language-model"
    assert loaded.info.grid is None
    for key, tensor in loaded.llm.state_dict().items():
        assert torch.equal(tensor, saved[f"llm.{key}"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", torch.bfloat16])
def test_a_model_loads_as_the_type_asked_for(dtype, run_directory, encoder_file):
    folder = run_directory()
    model = load_model(folder, vision_source=encoder_file, dtype=dtype)
    name = str(dtype).removeprefix("torch.")
    assert model.info.dtype == name
    assert {str(tensor.dtype) for tensor in model.vlm.parameters()} == {f"torch.{name}"}
    file = open_weights(folder / "checkpoints" / "latest-checkpoint.pt")
    exact = file.tensors["projector.projector.0.weight"].read()
    assert torch.equal(model.vlm.projector.projector[0].weight, exact.to(getattr(torch, name)))


@pytest.mark.parametrize(
    ("stored", "loaded"), [("float16", "float32"), ("bfloat16", "bfloat16"), ("float64", "float32")]
)
def test_the_type_without_asking(stored, loaded, run_directory, encoder_file):
    def convert(state, _):
        for keys in state.values():
            for key in keys:
                keys[key] = keys[key].to(getattr(torch, stored))

    model = load_model(run_directory(change=convert), vision_source=encoder_file)
    assert model.info.dtype == loaded


def test_every_tensor_is_read_once_and_reported(run_directory, encoder_file, monkeypatch):
    reads, steps = [], []
    read = TensorRef.read

    def counted(self, **options):
        reads.append((self.path, self.offset))
        return read(self, **options)

    monkeypatch.setattr(TensorRef, "read", counted)
    load_model(run_directory(), vision_source=encoder_file, progress=lambda *step: steps.append(step))
    assert len(reads) == len(set(reads))
    for what in ("vision encoder", "model"):
        done = [step[0] for step in steps if step[2] == what]
        total = next(step[1] for step in steps if step[2] == what)
        assert done == sorted(done)
        assert done[-1] == total


@pytest.mark.parametrize("kept", [0, 3, 100, 0.3, 0.9, 0.999])
def test_truncated_files_are_errors(kept, run_directory, encoder_file):
    folder = run_directory()
    path = folder / "checkpoints" / "latest-checkpoint.pt"
    data = path.read_bytes()
    path.write_bytes(data[: kept if isinstance(kept, int) else int(kept * len(data))])
    with pytest.raises(CheckpointError, match=r"truncated|no weight file"):
        load_model(folder, vision_source=encoder_file)


def test_config_problems_are_named(run_directory, encoder_file):
    def broken(**fields):
        def change(_, config):
            for name, value in fields.items():
                if value is None:
                    del config["model"][name]
                else:
                    config["model"][name] = value

        return change

    cases = {
        "cobra-3b": (broken(llm_backbone_id="llama-7b"), "llm_backbone_id 'llama-7b' is not official"),
        "emma-v1-3b": (broken(arch_specifier="no-align+qformer"), "arch_specifier must end in one of linear"),
        "emma-v2-3b": (broken(vision_backbone_id=None), "missing required field `vision_backbone_id`"),
    }
    for name, (change, message) in cases.items():
        with pytest.raises(CheckpointError, match=message):
            load_model(run_directory(name, change=change), vision_source=encoder_file)


def test_an_unknown_override_is_an_error(run_directory, encoder_file):
    def change(_, config):
        config["emma_viz"]["llm"]["heads"] = 3

    with pytest.raises(CheckpointError, match="heads"):
        load_model(run_directory(change=change), vision_source=encoder_file)


def test_a_config_that_is_no_json(run_directory, encoder_file):
    folder = run_directory()
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: expected JSON, but it is none"):
        load_model(folder, vision_source=encoder_file)
    (folder / "config.json").write_text(json.dumps([1]))
    with pytest.raises(CheckpointError, match="expected a JSON object, got an array"):
        load_model(folder, vision_source=encoder_file)
