"""What a model that no family takes is told: what it is, the nearest family, and what is missing."""

import json
import re

import pytest
import torch
from safetensors.torch import save_file

from emma_viz.checkpoints import load_language_model, load_model
from emma_viz.checkpoints.layouts import LAYOUTS
from emma_viz.checkpoints.nearest import nearest_of_config, nearest_of_keys
from emma_viz.errors import CheckpointError
from emma_viz.models.families.table import OUR_FAMILIES, family_names
from emma_viz.models.peers.table import PEERS
from emma_viz.models.sizes import vlm_shapes

LLM = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
RUN = {"model_id": "prism-dinosiglip+7b", "arch_specifier": "no-align+fused-gelu-mlp"}
CONFIGS = {
    "LLaVA, original": (
        {
            "model_type": "llava_llama",
            **LLM,
            "mm_vision_tower": "openai/clip",
            "mm_projector_type": "mlp2x_gelu",
        },
        r"LLaVA's original layout .* nearest family is llava-hf, .*the same weights .*such as llava-hf/llava-1\.5-7b",
    ),
    "LLaVA, original, by the name of transformers' class": (
        {"model_type": "llava", **LLM, "mm_vision_tower": "openai/clip-vit-large-patch14"},
        r"LLaVA's original layout .* nearest family is llava-hf",
    ),
    "LLaVA-NeXT, original": (
        {
            "model_type": "llava_qwen",
            **LLM,
            "mm_vision_tower": "google/siglip",
            "image_grid_pinpoints": [[1, 2]],
        },
        r"original layout .* nearest family is llava-anyres",
    ),
    "InternVL, original": (
        {"model_type": "internvl_chat", "vision_config": {}, "llm_config": {}, "downsample_ratio": 0.5},
        r"InternVL's original layout .*nearest family is internvl.*what is missing here is that form",
    ),
    "Nemotron-H": (
        {"model_type": "nemotron_h", **LLM, "hybrid_override_pattern": "M-M*-"},
        r"Nemotron-H, a hybrid .*nearest families are matvlm and mmmamba.*missing is the form of these blocks",
    ),
    "Zamba2": (
        {"model_type": "zamba2", **LLM, "hybrid_layer_ids": [6], "mamba_d_state": 64},
        r"hybrid language model .*nearest families are matvlm and mmmamba",
    ),
    "Falcon Mamba": (
        {"model_type": "falcon_mamba", "hidden_size": 64, "state_size": 16, "conv_kernel": 4},
        r"Mamba in transformers' form .*nearest are the language models of model_type\s+mamba and mamba2",
    ),
    "Qwen2": ({"model_type": "qwen2", **LLM}, r"attention, or an encoder, alone: no family is near"),
    "no model_type, with images": (
        {"vision_config": {}, "text_config": {}, "vision_feature_layer": -2},
        r"by its vision_feature_layer the nearest is llava-hf .*missing is its model_type, which tells the family",
    ),
    "images in a part": (
        {"model_type": "some_omni", "thinker_config": {"vision_config": {}}},
        r"some_omni\), of no family here; none of .* is near",
    ),
    "a type like none": ({"model_type": "whisper", "d_model": 4}, r"No family is near: .*'whisper'"),
    "nothing": ({"hello": 1}, r"No family is near: none of its fields \(it has no model_type\)"),
    "a run directory with another language model": (
        {
            "model": {
                **RUN,
                "vision_backbone_id": "dinosiglip-vit-so-384px",
                "llm_backbone_id": "llama2-7b-pure",
            }
        },
        r"llm_backbone_id must be one of .*layout of cobra, the nearest family .*missing is that language model",
    ),
    "a run directory with another encoder": (
        {"model": {**RUN, "vision_backbone_id": "clip-vit-l-336px", "llm_backbone_id": "mamba-2.8b-zephyr"}},
        r"vision_backbone_id must be one of .*missing is that image encoder",
    ),
    "another `model`": (
        {"model": {"name": "x"}},
        r"is no run directory's, .*it has name\. No family is near",
    ),
}
KEYS = {
    "Cobra": (
        ["projector.projector.0.weight", "llm_backbone.llm.backbone.layers.0.norm.weight"],
        "families cobra, ",
    ),
    "Prismatic": (
        ["projector.projector.0.weight", "llm_backbone.llm.model.layers.0.x"],
        "nearest family is cobra; what",
    ),
    "LLaVA, original": (
        ["model.layers.0.x", "model.mm_projector.0.weight", "model.vision_tower.vision_tower.x"],
        "nearest family is llava-hf.*config.json, which is missing",
    ),
    "LLaVA": (
        ["language_model.model.layers.0.x", "multi_modal_projector.linear_1.weight"],
        "llava-hf, llava-anyres",
    ),
    "Qwen-VL": (["model.visual.blocks.0.x", "model.language_model.layers.0.y"], "the family qwen-vl"),
    "InternVL, original": (["vision_model.encoder.x", "mlp1.0.weight"], "InternVL's original layout"),
    "Llama": (["model.embed_tokens.weight", "model.layers.0.x"], "attention alone: no family is near"),
    "state-spaces": (["backbone.embedding.weight"], "language model in the layout state-spaces"),
    "unknown": (["encoder.block.0.weight"], "No family is near: the keys begin with encoder.block"),
}


def folder_of(path, config=None, keys=("a.b",)):
    if config is not None:
        (path / "config.json").write_text(json.dumps(config))
    place = path / "checkpoints" if config and "model" in config else path
    place.mkdir(exist_ok=True)
    name = "latest-checkpoint" if place != path else "model"
    save_file({key: torch.zeros(1) for key in keys}, place / f"{name}.safetensors")
    return path


@pytest.mark.parametrize(("config", "said"), CONFIGS.values(), ids=CONFIGS)
def test_by_its_config(config, said, tmp_path):
    with pytest.raises(CheckpointError, match=said):
        load_model(folder_of(tmp_path, config))


@pytest.mark.parametrize(("keys", "said"), KEYS.values(), ids=KEYS)
def test_by_its_keys_where_there_is_no_config(keys, said, tmp_path):
    folder = folder_of(tmp_path, keys=keys)
    for source in (folder, folder / "model.safetensors"):
        with pytest.raises(CheckpointError, match=rf"has no config\.json.*{said}"):
            load_model(source)
    with pytest.raises(CheckpointError, match=said):
        load_language_model(folder / "model.safetensors")


def test_by_its_keys_where_a_preset_was_named(tmp_path):
    folder = folder_of(tmp_path, keys=["encoder.block.0.weight"])
    with pytest.raises(CheckpointError, match=r"of no known layout\. No family is near"):
        load_model(folder / "model.safetensors", config="cobra-3b")


@pytest.mark.parametrize("name", OUR_FAMILIES)
def test_the_keys_of_a_familys_own_files_name_it(name):
    family = OUR_FAMILIES[name]
    tiny = next(make for preset, make in family.presets.items() if preset.startswith("tiny"))
    said = nearest_of_keys([family.layout.file_key(key) for key in vlm_shapes(tiny())], LAYOUTS)
    assert f"layout {family.layout.name} (" in said
    assert name in re.findall(r"[\w-]+", said.partition("(the families")[2].partition(")")[0])


def test_a_family_that_is_named_is_one_that_there_is():
    named = {*family_names(), *PEERS}
    for config, _ in CONFIGS.values():
        if "model" in config:
            continue
        said = nearest_of_config(config)
        near = said.partition("nearest famil")[2].partition(",")[0].split()[2:]
        assert {each for each in near if each not in ("and", "are", "is")} <= named, said
