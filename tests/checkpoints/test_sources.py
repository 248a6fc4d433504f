"""What may be named as a model, and where its files are found; no test here reaches the network."""

import json
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from emma_viz.checkpoints import inspect, known_names, load_language_model, load_model, sources
from emma_viz.checkpoints.run_config import read_description, run_config, vlm_config
from emma_viz.checkpoints.sources import local_folder, resolve
from emma_viz.errors import CheckpointError
from emma_viz.models import PRESETS, MambaLM

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def bundled(tmp_path, monkeypatch):
    folder = tmp_path / "bundled"
    monkeypatch.setattr(sources, "BUNDLED", folder)
    return folder


@pytest.mark.parametrize("name", ["cobra-3b", "emma-v1-3b", "emma-v2-3b"])
def test_official_ids_describe_the_presets(name):
    config = PRESETS[name]()
    official = {"model": {**run_config(config)["model"], "finetune_epochs": 2}}
    assert vlm_config(official, where="x") == config


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_descriptions_survive_a_trip_through_json(name):
    config = PRESETS[name]()
    values = json.loads(json.dumps(run_config(config, provenance={"steps": 3})))
    assert vlm_config(values, where="x") == config


def test_a_tokenizer_named_by_the_user(run_directory, encoder_file, tokenizer_file, cached, tmp_path):
    folder = run_directory()
    (folder / "tokenizer.json").unlink()
    cached("someone/words", {"tokenizer.json": tokenizer_file})
    for named in (tokenizer_file, tokenizer_file.parent, "someone/words"):
        assert load_language_model(folder, tokenizer_source=named).tokenizer.encode("a cup")
    with pytest.raises(CheckpointError, match="There is no "):
        load_language_model(folder, tokenizer_source=tmp_path / "nothing.json")


@pytest.mark.parametrize("named", ["runs/tokenizer.json", "my/runs/words", "./words"])
def test_a_misspelt_path_of_a_tokenizer_is_no_hub_id(named, run_directory):
    said = rf"There is no {Path(named)}\. Pass a tokenizer\.json"
    with pytest.raises(CheckpointError, match=said):
        load_language_model(run_directory(), tokenizer_source=named)


def test_what_reads_as_the_hub_id_of_a_tokenizer_is_said_to_be_no_path_first(run_directory):
    with pytest.raises(CheckpointError, match="There is no runs/words, and as a hub id it cannot be had: "):
        load_language_model(run_directory(), tokenizer_source="runs/words")


def test_bundled_models_and_encoders_go_by_name(bundled, run_directory, encoder_file):
    folder = run_directory()
    bundled.mkdir()
    shutil.copytree(folder, bundled / "cobra-mini")
    assert "cobra-mini" in known_names()
    model = load_model("cobra-mini", vision_source=encoder_file)
    assert (model.name, model.info.source, model.folder) == (
        "cobra-mini",
        "cobra-mini",
        bundled / "cobra-mini",
    )
    assert resolve("cobra-mini").kind == "bundled"


def test_a_bundled_name_is_that_model_in_every_folder(bundled, run_directory, tmp_path, monkeypatch, caplog):
    """The log says where a path of that name is passed over; its whole path is taken as one."""
    shutil.copytree(run_directory(), bundled / "cobra-mini")
    monkeypatch.chdir(bundled)
    assert resolve("cobra-mini").folder == bundled / "cobra-mini"
    assert not caplog.records
    monkeypatch.chdir(tmp_path)
    own = shutil.copytree(bundled / "cobra-mini", tmp_path / "cobra-mini")
    assert resolve("cobra-mini").folder == bundled / "cobra-mini"
    assert f"cobra-mini is the bundled model; to read what has that name here, pass {own}" in caplog.text
    for path in (own, "./cobra-mini"):
        assert resolve(path).folder.resolve() == own


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("emma-v1-3b", "No weights of emma-v1-3b are published"),
        ("emma-v2-3b", "No weights of emma-v2-3b are published"),
        ("tiny-cobra", "description without weights"),
        ("cobra3b", "There is no model 'cobra3b'"),
        ("./runs/nothing", r"There is no model '\./runs/nothing'"),
        ("runs/nothing.pt", r"There is no model 'runs/nothing\.pt'"),
        ("no one/thing", "There is no model"),
    ],
)
def test_names_that_stand_for_nothing(given, message):
    with pytest.raises(CheckpointError, match=message):
        load_model(given)


def test_folders_that_are_not_complete(tmp_path, run_directory):
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        load_model(tmp_path)
    folder = run_directory()
    weights = folder / "checkpoints" / "latest-checkpoint.pt"
    shutil.copy(weights, weights.with_suffix(".safetensors"))
    with pytest.raises(CheckpointError, match="has both"):
        load_model(folder)
    weights.unlink()
    weights.with_suffix(".safetensors").unlink()
    with pytest.raises(CheckpointError, match="none of the weights"):
        load_model(folder)


def test_a_weight_file_inside_a_run_directory(run_directory, encoder_file):
    folder = run_directory()
    older = folder / "checkpoints" / "step-000010-epoch-01-loss=0.5.pt"
    shutil.copy(folder / "checkpoints" / "latest-checkpoint.pt", older)
    model = load_model(older, vision_source=encoder_file)
    assert model.name == "step-000010-epoch-01-loss=0.5"
    assert model.folder == folder
    assert load_model(older.with_name("latest-checkpoint.pt"), vision_source=encoder_file).name == folder.name


@pytest.mark.parametrize("within", [None, "model.safetensors"])
def test_a_model_in_a_folder_called_checkpoints(tmp_path, monkeypatch, tokenizer_file, within):
    """As `--local-dir checkpoints` leaves it, named by its folder or by its weights."""
    config = {"d_model": 32, "n_layer": 4, "vocab_size": 634, "ssm_cfg": {"d_state": 8}}
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(tokenizer_file, folder / "tokenizer.json")
    llm = read_description(config, where="config.json")
    save_file(
        {key: value for key, value in MambaLM(llm).state_dict().items() if key != "lm_head.weight"},
        folder / "model.safetensors",
    )
    monkeypatch.chdir(tmp_path)
    given = f"checkpoints/{within}" if within else "checkpoints"
    found = resolve(given)
    assert (found.folder, local_folder(given)) == (Path("checkpoints"), Path("checkpoints"))
    assert inspect(given).problems == ()
    model = load_language_model(given)
    assert (model.info.name, model.info.d_model) == ("checkpoints", 32)


def test_a_weight_file_that_stands_alone_needs_a_description(
    run_directory, encoder_file, tmp_path, small_config, tokenizer_file
):
    folder = run_directory(layers=3)
    alone = tmp_path / "alone.pt"
    shutil.copy(folder / "checkpoints" / "latest-checkpoint.pt", alone)
    with pytest.raises(CheckpointError, match=r"Pass config"):
        load_model(alone)
    with pytest.raises(CheckpointError, match="There is no preset 'cobra'"):
        load_model(alone, config="cobra")
    config = small_config()
    from dataclasses import replace

    config = replace(config, llm=replace(config.llm, d_state=16))
    model = load_model(alone, config=config, vision_source=encoder_file, tokenizer_source=tokenizer_file)
    assert model.name == "alone"
    with pytest.raises(CheckpointError, match="has its own config"):
        load_model(folder, config=config)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
        (b"<!DOCTYPE html>", "is no weight file"),
        (b"PK\x03\x04 but nothing else", "truncated or damaged"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{}", "no safetensors file, or it is truncated"),
        (b"\x02\x00\x00\x00\x00\x00\x00\x00{]", "header: expected JSON, but it is none"),
        (struct.pack("<Q", 200_005) + b'{"a":' + b"[" * 200_000, "nested more than 4 deep"),
        (b'\x13\x00\x00\x00\x00\x00\x00\x00{"a": 1, "a": 2   }', "the key 'a' stands in one object twice"),
    ],
)
def test_files_that_are_no_weights(content, message, run_directory):
    folder = run_directory()
    (folder / "checkpoints" / "latest-checkpoint.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"), (None, "leads out of")],
)
def test_weights_that_cannot_be_read_do_not_hide_that_the_config_lacks(content, why, tmp_path):
    weights = tmp_path / "model" / "model.safetensors"
    weights.parent.mkdir()
    if content is None:
        (tmp_path / "elsewhere").write_bytes(b"")
        weights.symlink_to(tmp_path / "elsewhere")
    else:
        weights.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=rf"has no config\.json\. .*Nor can its weights be read: .*{why}"
    ):
        load_model(weights.parent)


STEPS = (
    "step-000900-epoch-00-loss=3.1.pt",
    "step-001000-epoch-01-loss=0.9123.pt",
    "step-000999-epoch-00-loss=1e-05.pt",
)


def test_a_run_directory_with_steps_alone_is_opened_at_the_highest(run_directory, encoder_file, caplog):
    """Also when a later one was written at an earlier time; the log says which."""
    folder = run_directory()
    plain = load_model(folder, vision_source=encoder_file)
    latest = folder / "checkpoints/latest-checkpoint.pt"
    latest.rename(folder / "checkpoints" / STEPS[1])
    for name in (STEPS[0], STEPS[2]):
        (folder / "checkpoints" / name).write_bytes(b"not to be read")
    model = load_model(folder, vision_source=encoder_file)
    assert (model.name, model.info.fingerprint, model.folder) == (plain.name, plain.info.fingerprint, folder)
    assert f"checkpoints/{STEPS[1]} is read, the highest step of 3" in caplog.text
    assert inspect(folder).file.endswith(STEPS[1])
    (folder / "checkpoints/step-001000-epoch-01-loss=0.8.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"several checkpoints of step 1000: .*Pass the path"):
        load_model(folder)


def test_the_latest_checkpoint_goes_before_steps(run_directory, caplog):
    folder = run_directory()
    (folder / "checkpoints" / STEPS[0]).write_bytes(b"not to be read")
    assert inspect(folder).problems == ()
    assert "step" not in caplog.text


def test_a_run_directory_with_shards_alone_is_opened(run_directory, encoder_file, caplog):
    folder = run_directory()
    plain = inspect(folder)
    latest = folder / "checkpoints/latest-checkpoint.pt"
    nested = torch.load(latest, weights_only=True)["model"]
    state = {f"{part}.{key}": value for part, keys in nested.items() for key, value in keys.items()}
    latest.unlink()
    weight_map = {key: f"model-0000{1 + number % 2}-of-00002.bin" for number, key in enumerate(state)}
    for shard in set(weight_map.values()):
        torch.save({k: v for k, v in state.items() if weight_map[k] == shard}, folder / "checkpoints" / shard)
    with pytest.raises(CheckpointError, match="shards without their index"):
        inspect(folder)
    (folder / "checkpoints/model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    found = inspect(folder)
    assert (found.fingerprint, found.problems) == (plain.fingerprint, ())
    assert "the shards of checkpoints/model.bin.index.json are read" in caplog.text
    for named, called in (("model", folder.name), ("step-2", "step-2")):
        index = folder / "checkpoints" / f"{named}.bin.index.json"
        (folder / "checkpoints/model.bin.index.json").rename(index)
        assert resolve(index).name == called
        index.rename(folder / "checkpoints/model.bin.index.json")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("checkpoints/final.pt", r"It holds checkpoints/final\.pt: pass the path"),
        ("epoch-3.ckpt", r"It holds epoch-3\.ckpt: pass the path"),
        ("checkpoints/__0_0.distcp", "format_utils dcp_to_torch FOLDER"),
        ("checkpoints/step-000100/__1_0.distcp", "format_utils dcp_to_torch FOLDER"),
        ("notes.txt", r"latest-checkpoint\.pt\.$"),
    ],
)
def test_a_run_directory_with_other_weights_names_them(run_directory, name, said):
    folder = run_directory()
    (folder / "checkpoints/latest-checkpoint.pt").unlink()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"x")
    with pytest.raises(CheckpointError, match=said):
        load_model(folder)


def test_a_step_that_is_a_link_out_of_the_folder_is_refused(run_directory, tmp_path):
    folder = run_directory()
    outside = (folder / "checkpoints/latest-checkpoint.pt").rename(tmp_path / "elsewhere.pt")
    (folder / "checkpoints" / STEPS[0]).symlink_to(outside)
    with pytest.raises(CheckpointError, match="leads out"):
        load_model(folder)
