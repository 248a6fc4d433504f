"""Language models alone: state-spaces and transformers layouts, against transformers itself."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from emma_viz.checkpoints import inspect, load_language_model, load_model
from emma_viz.checkpoints.run_config import language_model_config
from emma_viz.checkpoints.unsupported import TRANSFORMERS_LOOKED_AT, UNSUPPORTED
from emma_viz.errors import CheckpointError, KeyMismatchError

IDS = torch.tensor([[5, 17, 300, 2, 599, 41, 7]])


def transformers_model(ssm: str):
    from transformers import Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM

    common = {"vocab_size": 640, "hidden_size": 32, "num_hidden_layers": 2, "tie_word_embeddings": True}
    if ssm == "mamba1":
        model = MambaForCausalLM(MambaConfig(**common, state_size=8, use_mambapy=False))
    else:
        heads = {"num_heads": 4, "head_dim": 16, "n_groups": 1, "state_size": 16, "chunk_size": 8}
        model = Mamba2ForCausalLM(Mamba2Config(**common, **heads))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(params=["mamba1", "mamba2"])
def published(request, tmp_path, tokenizer_file):
    """A folder that transformers wrote, and the logits of its model."""
    model = transformers_model(request.param)
    folder = tmp_path / f"{request.param}-hf"
    model.save_pretrained(folder)
    shutil.copy(tokenizer_file, folder)
    with torch.inference_mode():
        return folder, model(IDS).logits


def assert_agrees(folder, expected):
    loaded = load_language_model(folder)
    with torch.inference_mode():
        logits = loaded.llm(IDS)
    assert torch.allclose(logits, expected, rtol=1e-3, atol=1e-4)
    return loaded


def to_state_spaces(folder, target, *, zip_archive=True):
    """Rewrite a transformers folder as state-spaces publish theirs."""
    theirs = json.loads((folder / "config.json").read_text())
    second = theirs["model_type"] == "mamba2"
    ssm = {"d_state": theirs["state_size"], **({"layer": "Mamba2", "headdim": 16} if second else {})}
    config = {
        "d_model": 32,
        "n_layer": 2,
        "vocab_size": 634,
        "ssm_cfg": ssm,
        "rms_norm": True,
        "residual_in_fp32": True,
        "fused_add_norm": True,
        "pad_vocab_size_multiple": 8,
    }
    target.mkdir()
    (target / "config.json").write_text(json.dumps(config))
    shutil.copy(folder / "tokenizer.json", target)
    state = load_file(folder / "model.safetensors")
    state = {
        key.replace("backbone.embeddings.", "backbone.embedding."): tensor for key, tensor in state.items()
    }
    state["lm_head.weight"] = state["backbone.embedding.weight"]
    torch.save(state, target / "pytorch_model.bin", _use_new_zipfile_serialization=zip_archive)


def test_the_transformers_layout(published):
    loaded = assert_agrees(*published)
    assert loaded.name == published[0].name
    assert loaded.info.ssm == published[0].name.removesuffix("-hf")
    assert loaded.info.family == "language-model"
    assert loaded.llm.lm_head.weight is loaded.llm.backbone.embedding.weight


def test_the_state_spaces_layout(published, tmp_path):
    folder, expected = published
    to_state_spaces(folder, tmp_path / "original")
    loaded = assert_agrees(tmp_path / "original", expected)
    assert loaded.info.fingerprint == load_language_model(folder).info.fingerprint


def rewritten(folder, target, change):
    """The state-spaces form of a transformers folder, with a change of its `config.json`."""
    to_state_spaces(folder, target)
    path = target / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    return target


def test_a_folder_that_cobras_own_class_saved(published, tmp_path):
    """Its constructor writes the padded size of the table into the config."""
    folder, expected = published
    if folder.name != "mamba1-hf":
        pytest.skip("Cobra's class has Mamba-1 alone")
    target = rewritten(
        folder,
        tmp_path / "cobras",
        lambda theirs: (
            COBRA | theirs | {"hidden_size": 32, "vocab_size": 640, "ssm_cfg": SPELLED_OUT | {"d_state": 8}}
        ),
    )
    assert_agrees(target, expected)
    found = inspect(target)
    assert not found.problems
    assert found.config.n_layer == 2


@pytest.mark.parametrize("ssm", ["mamba1", "mamba2"])
def test_the_epsilon_of_the_norms_is_used(ssm, tmp_path, tokenizer_file):
    """mamba_ssm's gated norm keeps its own, which transformers makes the same."""
    model = transformers_model(ssm)
    folder = tmp_path / f"{ssm}-hf"
    for name, module in model.named_modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon = 1e-5 if name.endswith("mixer.norm") else 1e-2
    model.save_pretrained(folder)
    shutil.copy(tokenizer_file, folder)
    with torch.inference_mode():
        expected = model(IDS).logits
    assert_agrees(
        rewritten(folder, tmp_path / "original", lambda theirs: theirs | {"norm_epsilon": 1e-2}), expected
    )


def test_transformers_gives_both_norms_of_a_mamba2_one_epsilon(tmp_path, tokenizer_file):
    from transformers import Mamba2ForCausalLM

    first = transformers_model("mamba2")
    first.config.layer_norm_epsilon = 1e-2
    model = Mamba2ForCausalLM(first.config).eval()
    model.load_state_dict(first.state_dict())
    folder = tmp_path / "mamba2-hf"
    model.save_pretrained(folder)
    shutil.copy(tokenizer_file, folder)
    with torch.inference_mode():
        assert_agrees(folder, model(IDS).logits)


TABLE = "backbone.embeddings.weight"
HEADS = {
    "none": (True, lambda state: state, None),
    "a copy": (False, lambda state: state | {"lm_head.weight": state[TABLE].clone()}, None),
    "a copy, said to be tied": (True, lambda state: state | {"lm_head.weight": state[TABLE].clone()}, None),
    "another": (False, lambda state: state | {"lm_head.weight": 2 * state[TABLE]}, "differs from"),
    "another, said to be tied": (
        True,
        lambda state: state | {"lm_head.weight": 2 * state[TABLE]},
        "differs from",
    ),
    "none, though it is said to be another": (False, lambda state: state, "lm_head.weight"),
    "without the table": (
        True,
        lambda state: {("lm_head.weight" if key == TABLE else key): value for key, value in state.items()},
        "backbone.embedding",
    ),
}


@pytest.mark.parametrize("name", HEADS)
def test_inspect_says_of_a_head_what_loading_says(published, name):
    folder, expected = published
    tied, change, refused = HEADS[name]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": tied}))
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")
    problems = inspect(folder).problems
    if refused is None:
        assert not problems
        assert_agrees(folder, expected)
        return
    assert any(refused in problem for problem in problems)
    with pytest.raises(CheckpointError, match=refused):
        load_language_model(folder)


def test_a_language_model_that_computes_otherwise_is_no_source(published, run_directory, encoder_file):
    folder, _ = published
    if folder.name != "mamba1-hf":
        pytest.skip("one is enough")

    def change(state, config):
        del state["llm_backbone"]
        config["emma_viz"] = {
            "llm": {"d_model": 32, "n_layer": 2, "vocab_size": 640, "d_state": 8},
            "taps": [],
        }

    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"layer_norm_epsilon": 1e-2}))
    with pytest.raises(CheckpointError, match=r"norm_eps is 0\.01, expected 1e-05"):
        load_model(run_directory(change=change), llm_source=folder, vision_source=encoder_file)


def test_sharded_safetensors(published, tmp_path):
    folder, expected = published
    state = load_file(folder / "model.safetensors")
    names = sorted(state)
    parts = {"a-of-2.safetensors": names[::2], "b-of-2.safetensors": names[1::2]}
    for file, keys in parts.items():
        save_file({key: state[key] for key in keys}, folder / file)
    index = {"metadata": {}, "weight_map": {key: file for file, keys in parts.items() for key in keys}}
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_agrees(folder, expected)
    (folder / "b-of-2.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"shards that are not there: b-of-2\.safetensors"):
        load_language_model(folder)
    index["weight_map"][names[0]] = "../a-of-2.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="expected the bare name of a file beside it"):
        load_language_model(folder)


def test_sharded_archives(published):
    folder, expected = published
    state = load_file(folder / "model.safetensors")
    names = sorted(state)
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for number, keys in enumerate((names[:5], names[5:])):
        torch.save({key: state[key] for key in keys}, folder / f"pytorch_model-{number}.bin")
        weight_map |= dict.fromkeys(keys, f"pytorch_model-{number}.bin")
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert_agrees(folder, expected)
    weight_map["backbone.layers.9.norm.weight"] = "pytorch_model-0.bin"
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(CheckpointError, match=r"do not hold: backbone\.layers\.9\.norm\.weight"):
        load_language_model(folder)


def test_keys_are_named_as_the_file_names_them(published, tmp_path):
    folder, _ = published
    state = load_file(folder / "model.safetensors")
    state["backbone.embedings.weight"] = state.pop("backbone.embeddings.weight")[:9].clone()
    state["backbone.layers.1.norm.weight"] = state["backbone.layers.1.norm.weight"][:-1].clone()
    (folder / "model.safetensors").unlink()  # what was read from it may still be mapped
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"of no known layout|unknown") as caught:
        load_language_model(folder)
    state["backbone.embeddings.weight"] = state.pop("backbone.embedings.weight")
    state["backbone.layers.0.mixer.extra"] = torch.zeros(1)
    del state["backbone.norm_f.weight"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(KeyMismatchError) as caught:
        load_language_model(folder)
    assert caught.value.missing == ("backbone.norm_f.weight",)
    assert caught.value.unknown == ("backbone.layers.0.mixer.extra",)
    assert sorted(caught.value.misshapen) == [
        "backbone.embeddings.weight: 9×32, expected 640×32",
        "backbone.layers.1.norm.weight: 31, expected 32",
    ]


def test_the_old_format_says_how_to_convert(published, tmp_path):
    to_state_spaces(published[0], tmp_path / "old", zip_archive=False)
    with pytest.raises(CheckpointError, match=r"before 1\.6.*weights_only=True"):
        load_language_model(tmp_path / "old")


def test_a_language_model_is_no_vision_language_model(published):
    with pytest.raises(CheckpointError, match="language model without projector"):
        load_model(published[0])


def test_a_projector_with_a_published_language_model(published, run_directory, encoder_file, tmp_path):
    folder, _ = published
    ssm = folder.name.removesuffix("-hf")

    def change(state, config):
        del state["llm_backbone"]
        config["emma_viz"] = {
            "llm": {
                "d_model": 32,
                "n_layer": 2,
                "vocab_size": 640,
                "pad_vocab_size_multiple": 8,
                "d_state": 8 if ssm == "mamba1" else 16,
                "headdim": 16,
            },
            "taps": [],
        }

    name = "cobra-3b" if ssm == "mamba1" else "emma-v2-3b"
    align = run_directory(name, change=change)
    model = load_model(align, llm_source=folder, vision_source=encoder_file)
    alone = load_language_model(folder)
    for key, tensor in alone.llm.state_dict().items():
        assert torch.equal(model.vlm.llm.state_dict()[key], tensor)


def test_a_tokenizer_larger_than_the_table_is_an_error(published, tokenizer_file):
    folder, _ = published
    state = load_file(folder / "model.safetensors")
    key = "backbone.embeddings.weight"
    save_file({**state, key: state[key][:100].clone()}, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 100}))
    with pytest.raises(
        CheckpointError,
        match=r"tokens with ids up to 625, but the model's table has 100 rows.*tokenizer_source",
    ):
        load_language_model(folder)


MAMBA = {"model_type": "mamba", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 50280}
MAMBA2 = {**MAMBA, "model_type": "mamba2", "head_dim": 16, "num_heads": 8, "n_groups": 1}
ORIGINAL = {"d_model": 2560, "n_layer": 64, "vocab_size": 50277, "pad_vocab_size_multiple": 8}


SPELLED_OUT = {
    "d_state": 16, "d_conv": 4, "expand": 2, "dt_rank": "auto", "dt_min": 0.001, "dt_max": 0.1, "dt_init": "random",
    "dt_scale": 1.0, "dt_init_floor": 1e-4, "conv_bias": True, "bias": False, "use_fast_path": True,
}  # fmt: skip
COBRA = {
    "architectures": ["MambaForCausalLM"], "model_type": "mamba", "d_model": 2560, "hidden_size": 2560, "n_layer": 64,
    "vocab_size": 50280, "pad_vocab_size_multiple": 8, "ssm_cfg": SPELLED_OUT, "norm_epsilon": 1e-5, "rms_norm": True,
    "residual_in_fp32": True, "fused_add_norm": True, "initializer_cfg": None, "bos_token_id": 0, "eos_token_id": 0,
    "pad_token_id": 1, "torch_dtype": "bfloat16", "transformers_version": "4.34.1",
}  # fmt: skip
"""What Cobra's own configuration class writes: the type of transformers' Mamba, and fields of state-spaces."""
PUBLISHED_HF = {
    "model_type": "mamba", "hidden_size": 2560, "num_hidden_layers": 64, "vocab_size": 50280, "d_model": 2560,
    "n_layer": 64, "ssm_cfg": {}, "rms_norm": True, "fused_add_norm": True, "pad_vocab_size_multiple": 8,
    "state_size": 16, "time_step_rank": 160, "layer_norm_epsilon": 1e-5, "residual_in_fp32": True,
}  # fmt: skip
"""As state-spaces converted theirs: the fields of both."""


@pytest.mark.parametrize("values", [COBRA, PUBLISHED_HF, ORIGINAL], ids=["cobra", "hf", "state-spaces"])
def test_every_way_to_describe_it_is_the_preset_language_model(values):
    from emma_viz.models.backbones import mamba_2_8b

    config = language_model_config(values, where="x")
    assert config.differences(mamba_2_8b()) == ()
    assert config.padded_vocab_size == 50280


def test_published_configurations_are_the_presets_language_models():
    from emma_viz.models.backbones import mamba2_2_7b, mamba_2_8b

    assert language_model_config({**ORIGINAL, "ssm_cfg": {}}, where="x") == mamba_2_8b()
    second = {**ORIGINAL, "ssm_cfg": {"layer": "Mamba2"}, "pad_vocab_size_multiple": 16, "attn_layer_idx": []}
    assert language_model_config(second, where="x") == mamba2_2_7b()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"model_type": "llama"},
            "describes no Mamba language model.*No family is near: .* 'llama' is a sign",
        ),
        ({"hello": 1}, r"No family is near: none of its fields \(it has no model_type\)"),
        (
            {"model_type": "cobra-vlm"},
            r"alone, 'cobra-vlm', it is nearest to cobra \(a Mamba .*\), whose files have an object `model` with",
        ),
        (
            {"model_type": "mobilevlm_v3"},
            r"it is nearest to mobilevlm-v2 \(.*another config.json, and whose weights begin with model\.",
        ),
        (
            {"model_type": "llava_next_video", "vision_config": {}},
            r"\(llava_next_video\), of no family here; by its name alone it is nearest to llava_next, of the family "
            r"llava-anyres\. What is missing is where its image's tokens lie.*Recorder",
        ),
        (
            {"vision_config": {}},
            r"\(of an unnamed type\), of no family here; none of .* is near\. What is missing is "
            r"its model_type, .*Recorder",
        ),
        ({"model_type": "llava", "vision_config": {}}, r"the family llava-hf: load it with load_model\."),
        *(
            (
                {"model_type": kind, "vision_config": {}, "llm_config": {}},
                re.escape(f"{each.name} ({each.known}), which is not loaded: {each.missing}"),
            )
            for each in UNSUPPORTED
            for kind in each.model_types
        ),
        ({**MAMBA, "use_bias": True}, "use_bias is True"),
        ({**MAMBA, "use_conv_bias": False}, "use_conv_bias is False"),
        ({**MAMBA, "hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        (
            {"model_type": "mamba", "num_hidden_layers": 2, "vocab_size": 10},
            "missing required field `hidden_size`",
        ),
        ({**MAMBA2, "time_step_limit": [0.0, 1.0]}, "time_step_limit"),
        ({**MAMBA2, "num_heads": 7}, "num_heads is 7; supported: 8"),
        ({**ORIGINAL, "ssm_cfg": {"layer": "Mamba3"}}, r"ssm_cfg: Invalid enum value 'Mamba3'"),
        ({**ORIGINAL, "rms_norm": False}, "rms_norm is False"),
        ({**ORIGINAL, "attn_layer_idx": [3]}, "attn_layer_idx"),
        ({**ORIGINAL, "d_intermediate": 64}, "d_intermediate is 64"),
        ({**ORIGINAL, "tie_embeddings": False}, "tie_embeddings is False"),
        ({**ORIGINAL, "bidirectional": True}, "bidirectional is True"),
        ({**ORIGINAL, "norm_epsilon": 0}, "norm_epsilon"),
        *(
            ({**ORIGINAL, "ssm_cfg": {"layer": "Mamba2", **odd}}, f"ssm_cfg: {name} is")
            for odd in (
                {"rmsnorm": False},
                {"bias": True},
                {"conv_bias": False},
                {"D_has_hdim": True},
                {"norm_before_gate": True},
                {"d_ssm": 2560},
                {"dt_limit": [0.0, 0.1]},
            )
            for name in odd
        ),
        ({**ORIGINAL, "ssm_cfg": {"A_log_bias": 1}}, "ssm_cfg: unknown fields 'A_log_bias'"),
    ],
)
def test_parts_that_are_not_supported_are_named(values, message):
    with pytest.raises(CheckpointError, match=message):
        language_model_config(values, where="x")


def test_a_folder_of_a_model_that_is_known_and_not_loaded_says_what_is_missing(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "zamba2_vl", "vision_config": {}}))
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"Zamba2-VL .*, which is not loaded: transformers .* in a fork"
    ):
        load_model(tmp_path)


def test_what_the_named_version_of_transformers_lacks_is_looked_up():
    """Another version may have it: then what is said of it is to be looked at again."""
    import transformers
    from transformers.models.auto.auto_mappings import IMAGE_PROCESSOR_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as CLASSES

    if transformers.__version__ != TRANSFORMERS_LOOKED_AT:
        pytest.skip(
            f"the docs speak of transformers {TRANSFORMERS_LOOKED_AT}, not {transformers.__version__}"
        )
    kinds = {kind for each in UNSUPPORTED for kind in each.model_types}
    assert {kind for kind in kinds if kind in CLASSES} == {"nemotron_h_omni"}
    assert set(IMAGE_PROCESSOR_MAPPING_NAMES["nemotron_h_omni"]) == {"torchvision"}
