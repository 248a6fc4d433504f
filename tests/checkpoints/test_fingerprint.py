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
def test_at_most_so_many_values_count(size):
    seen = []

    class Counted(torch.Tensor):
        def __getitem__(self, key):
            if isinstance(key, list):
                seen.append(len(key))
            return super().__getitem__(key)

    fingerprint({"llm.x": torch.randn(size).as_subclass(Counted)})
    assert seen[0] == min(size, -(-size // max(1, -(-size // SAMPLES))))
    assert seen[0] <= SAMPLES


def test_the_fingerprint_of_a_model_in_memory_follows_what_is_done_to_it(
    vlm, tokenizer_file, tmp_path, encoder_file
):
    """Trained, edited, given another parameter; changed back it is the first again."""
    folder = save_run_directory(tmp_path, vlm.config, vlm.state_dict(), dtype="float16")
    model = load_model(folder, vision_source=encoder_file, tokenizer_source=tokenizer_file)
    first, weight = model.info, model.vlm.llm.backbone.embedding.weight
    assert model.info is first
    with torch.no_grad():
        kept = weight.clone()
        weight[0, 0] += 1
        changed = model.info
        assert changed.fingerprint == fingerprint(model.vlm.state_dict()) != first.fingerprint
        assert model.info is changed
        weight.copy_(kept)
        model.vlm.vision.get_parameter(next(name for name, _ in model.vlm.vision.named_parameters())).add_(1)
    assert model.info == first
    trained = torch.optim.SGD([weight], lr=1.0)
    weight.sum().backward()
    trained.step()
    marks = {first.fingerprint, changed.fingerprint, model.info.fingerprint}
    projector = model.vlm.projector
    module = next(each for each in projector.modules() if each._parameters)
    name = next(iter(module._parameters))
    setattr(module, name, torch.nn.Parameter(module.get_parameter(name) + 1))
    assert len(marks | {model.info.fingerprint}) == 4
    moved = model.info
    model.vlm.to(torch.bfloat16)
    assert model.info == moved


def test_a_language_model_alone_is_followed_too(tmp_path, vlm):
    from emma_viz.checkpoints.loaded import LoadedLanguageModel
    from emma_viz.data.provenance import ModelInfo

    info = ModelInfo(
        name="x", source="memory", revision=None, family="language-model", fingerprint="f" * 32, dtype="float32",
        n_layer=1, d_model=8, ssm="mamba1", grid=None,
    )  # fmt: skip
    model = LoadedLanguageModel(llm=vlm.llm, tokenizer=None, info=info)
    assert model.info is info
    with torch.no_grad():
        vlm.llm.backbone.embedding.weight += 1
    state = {name: each for name, each in vlm.state_dict().items() if name.startswith("llm.")}
    assert model.info.fingerprint == fingerprint(state)
