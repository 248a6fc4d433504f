"""The fingerprint: the same for the same weights however they are stored or loaded, another for others."""

import pytest
import torch

from emma_viz.checkpoints import load_model, save_run_directory
from emma_viz.checkpoints.fingerprint import SAMPLES, fingerprint
from emma_viz.checkpoints.loaded import LoadedModel
from emma_viz.data.tokenizer import Tokenizer


@pytest.fixture
def vlm(small_vlm):
    return small_vlm("tiny-emma-v1")


def test_formats_types_and_memory_agree(vlm, tmp_path, encoder_file, tokenizer_file):
    state = vlm.state_dict()
    in_memory = fingerprint(state)
    options = {"vision_source": encoder_file, "tokenizer_source": tokenizer_file}
    seen = {in_memory}
    for format in ("pt", "safetensors"):
        folder = save_run_directory(tmp_path / format, vlm.config, state, format=format)
        for dtype in (None, "float32", "bfloat16", "float16"):
            seen.add(load_model(folder, dtype=dtype, **options).info.fingerprint)
    rounded = save_run_directory(tmp_path / "rounded", vlm.config, state, dtype="bfloat16")
    seen.add(load_model(rounded, dtype="float32", **options).info.fingerprint)
    tokenizer = Tokenizer.load(tokenizer_file)
    seen.add(LoadedModel.from_vlm(vlm, tokenizer, name="x").info.fingerprint)
    assert seen == {in_memory}
    assert len(in_memory) == 32
    int(in_memory, 16)


def test_a_half_precision_file_agrees_with_what_is_loaded_from_it(
    vlm, tmp_path, encoder_file, tokenizer_file
):
    folder = save_run_directory(tmp_path / "half", vlm.config, vlm.state_dict(), dtype="float16")
    loaded = load_model(folder, vision_source=encoder_file, tokenizer_source=tokenizer_file)
    assert loaded.info.dtype == "float32"
    assert fingerprint(loaded.vlm.state_dict()) == loaded.info.fingerprint


def test_every_tensor_counts(vlm):
    before = fingerprint(vlm.state_dict())
    for name, tensor in vlm.state_dict().items():
        changed = {**vlm.state_dict(), name: tensor + 1 if tensor.dtype.is_floating_point else tensor}
        assert (fingerprint(changed) == before) == name.startswith("vision."), name


def test_a_head_that_is_the_embedding_again_is_not_counted_twice(vlm):
    state = vlm.state_dict()
    alone = {name: tensor for name, tensor in state.items() if name != "llm.lm_head.weight"}
    assert fingerprint(alone) == fingerprint(state)


def test_one_sampled_value_is_enough():
    values = torch.randn(64, 64)
    before = fingerprint({"llm.x": values})
    values[0, 0] += 1
    assert fingerprint({"llm.x": values}) != before


def test_names_and_shapes_count_and_order_does_not():
    a, b = torch.randn(4, 6), torch.randn(3)
    base = fingerprint({"llm.a": a, "llm.b": b})
    assert fingerprint({"llm.b": b, "llm.a": a}) == base
    assert fingerprint({"llm.a": a.view(6, 4), "llm.b": b}) != base
    assert fingerprint({"llm.c": a, "llm.b": b}) != base
    assert fingerprint({"projector.a": a, "llm.b": b}) != base


@pytest.mark.parametrize("size", [0, 1, SAMPLES - 1, SAMPLES, SAMPLES + 1, 10 * SAMPLES + 7])
def test_at_most_so_many_values_count(size, monkeypatch):
    seen = []
    index = torch.Tensor.__getitem__

    def counted(self, key):
        if isinstance(key, list):
            seen.append(len(key))
        return index(self, key)

    monkeypatch.setattr(torch.Tensor, "__getitem__", counted)
    fingerprint({"llm.x": torch.randn(size)})
    assert seen[0] == min(size, -(-size // max(1, -(-size // SAMPLES))))
    assert seen[0] <= SAMPLES
