"""Models of the hub, through its local cache; no test here reaches the network."""

import json
import shlex
from fnmatch import fnmatch

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

from emma_viz.checkpoints import inspect, load_model
from emma_viz.checkpoints.model_files import LM_WEIGHTS
from emma_viz.checkpoints.sources import local_folder, resolve
from emma_viz.checkpoints.vision import require_vision
from emma_viz.cli.wording import in_options
from emma_viz.errors import CheckpointError
from emma_viz.models import PRESETS, MambaLM
from emma_viz.models.backbones import clip_large_336
from tests.checkpoints.conftest import COMMIT
from tests.families import llava_files

pytestmark = pytest.mark.usefixtures("cache")

ENCODER_FILES = "--include 'model*.safetensors*' --include 'pytorch_model*.bin*'"


@pytest.mark.parametrize("given", ["han1997/cobra", "han1997/cobra/cobra+3b", "cobra-3b"])
def test_a_run_directory_on_the_hub(given, cached, run_directory, encoder_file, tokenizer_file):
    folder = run_directory()
    files = {f"cobra+3b/{path.relative_to(folder)}": path for path in folder.rglob("*") if path.is_file()}
    assert local_folder(given) is None
    cached("han1997/cobra", files)
    model = load_model(given, vision_source=encoder_file)
    assert model.info.revision == COMMIT
    assert model.info.source == given
    assert model.folder == local_folder(given)
    assert model.name == ("cobra-3b" if given == "cobra-3b" else "cobra+3b")
    assert model.info.fingerprint == load_model(folder, vision_source=encoder_file).info.fingerprint


def test_the_download_is_asked_for_the_right_files(monkeypatch, run_directory, encoder_file):
    folder, asked = run_directory(), []

    def download(repo, filename, *, revision, local_files_only):
        asked.append((repo, filename, revision))
        path = folder / filename.removeprefix("sub/")
        if not path.exists():
            raise huggingface_hub.errors.EntryNotFoundError(filename)
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    load_model("someone/thing/sub", revision="v1", vision_source=encoder_file)
    assert list(dict.fromkeys(asked)) == [
        ("someone/thing", f"sub/{name}", "v1")
        for name in (
            "config.json",
            "checkpoints/latest-checkpoint.safetensors",
            "checkpoints/latest-checkpoint.pt",
            "tokenizer.json",
        )
    ]


def test_a_sharded_language_model_on_the_hub(cached, tmp_path, tokenizer_file):
    llm = PRESETS["tiny-cobra"]().llm
    state = {key: tensor for key, tensor in MambaLM(llm).state_dict().items() if key != "lm_head.weight"}
    weight_map = {key: f"part-{number % 2}.bin" for number, key in enumerate(state)}
    for shard in set(weight_map.values()):
        torch.save(
            {key: tensor for key, tensor in state.items() if weight_map[key] == shard}, tmp_path / shard
        )
    (tmp_path / "index.json").write_text(json.dumps({"weight_map": weight_map}))
    config = {
        "d_model": 32,
        "n_layer": llm.n_layer,
        "vocab_size": llm.vocab_size,
        "ssm_cfg": {"d_state": llm.d_state},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    files = {"pytorch_model.bin.index.json": tmp_path / "index.json", "config.json": tmp_path / "config.json"}
    files |= {shard: tmp_path / shard for shard in set(weight_map.values())}
    cached("someone/small-mamba", files)
    found = inspect("someone/small-mamba")
    assert found.problems == ()
    assert found.n_tensors == len(state)


def test_offline_messages_say_what_to_download(run_directory, cached, tokenizer_file):
    with pytest.raises(
        CheckpointError, match=r"config\.json.*han1997/cobra.*hf download han1997/cobra --include"
    ):
        load_model("cobra-3b")
    folder = run_directory()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"hf download EleutherAI/gpt-neox-20b tokenizer\.json;.*tokenizer_source"
    ):
        load_model(folder)
    cached("EleutherAI/gpt-neox-20b", {"tokenizer.json": tokenizer_file})
    with pytest.raises(CheckpointError, match="no published weights; pass vision_source"):
        load_model(folder)


def test_the_real_encoders_are_asked_from_the_hub(run_directory, tokenizer_file):
    def change(_, config):
        config["model"]["vision_backbone_id"] = "dinosiglip-vit-so-384px"

    folder = run_directory(change=lambda state, config: (change(state, config), _widen(state)))
    with pytest.raises(CheckpointError) as refused:
        load_model(folder)
    said = in_options(str(refused.value))
    assert f"hf download facebook/dinov2-with-registers-large {ENCODER_FILES};" in said
    assert "Or pass --vision dinov2=PATH, " in said


def test_what_is_said_to_download_of_an_encoder_matches_each_name_of_its_weights():
    """Also of CLIP's repository, which has `pytorch_model.bin` and no safetensors."""
    with pytest.raises(CheckpointError) as refused:
        require_vision(clip_large_336())
    assert f"hf download openai/clip-vit-large-patch14-336 {ENCODER_FILES};" in str(refused.value)
    patterns = shlex.split(ENCODER_FILES)[1::2]
    for name in (*LM_WEIGHTS, "model-00001-of-00002.safetensors", "pytorch_model-00001-of-00002.bin"):
        assert any(fnmatch(name, each) for each in patterns)


def test_what_is_known_and_not_loaded_is_refused_before_its_weights_are_fetched(cached, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "zamba2_vl", "text_config": {}}))
    cached("someone/zamba2-vl", {"config.json": tmp_path / "config.json"})
    for ask in (load_model, inspect):
        with pytest.raises(
            CheckpointError, match=r"someone/zamba2-vl is of Zamba2-VL .*, the language model alone"
        ):
            ask("someone/zamba2-vl")


def test_the_second_description_of_a_hybrid_comes_with_the_first(cached, tmp_path):
    said = {"config.json": llava_files.TINYLLAVA, "mamba_config.json": llava_files.MATVLM}
    files = {}
    for name, values in said.items():
        files[name] = tmp_path / name
        files[name].write_text(json.dumps(values))
    files["model.safetensors"] = tmp_path / "model.safetensors"
    save_file({"x": torch.zeros(1)}, files["model.safetensors"])
    cached("someone/hybrid", files)
    found = resolve("someone/hybrid").config
    assert found == said["config.json"] | {"mamba_config": said["mamba_config.json"]}


def _widen(state):
    state["projector"]["projector.0.weight"] = torch.zeros(8704, 2176)
    state["projector"]["projector.0.bias"] = torch.zeros(8704)
    state["projector"]["projector.2.weight"] = torch.zeros(32, 8704)
