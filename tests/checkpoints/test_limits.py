"""What a small file can describe is bounded, and names found in a file stay beside it."""

import json
import pickle
import shutil
import struct
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.hostile.inputs.checkpoint_pickles import write_archive
from emma_viz.checkpoints import inspect, load_language_model, load_model
from emma_viz.checkpoints.readers.files import open_weights
from emma_viz.checkpoints.readers.pickles import read_pickle
from emma_viz.errors import CheckpointError

WEIGHTS = "checkpoints/latest-checkpoint"


def nested(width: int, depth: int) -> dict:
    """Dictionaries that all share the one below them."""
    value: dict = {}
    for _ in range(depth):
        value = {str(index): value for index in range(width)}
    return value


@pytest.fixture
def few(monkeypatch):
    """A smaller allowance, so that reaching it takes no time; the true one is tried by the hostile checkpoints."""
    monkeypatch.setattr("emma_viz.checkpoints.readers.allowance._STEPS", 8000)


def test_dictionaries_that_share_their_content_are_paid_for_each_time(archive, few):
    small = pickle.dumps({"model": nested(12, 8)}, 2)
    assert len(small) < 1500
    with pytest.raises(CheckpointError, match="more than 8000 steps"):
        open_weights(archive(small))


def test_a_list_that_many_keys_share_is_looked_through_once(archive):
    shared = [1] * 3000
    file = open_weights(archive(pickle.dumps({"model": {f"k{n}": shared for n in range(3000)}}, 2)))
    assert len(file.others) == 3000


def test_copies_of_a_dictionary_are_paid_for(few):
    thousand = b"}(" + b"".join(b"X\x04\x00\x00\x00%04dN" % n for n in range(1000)) + b"uq\x000"
    copies = b"ccollections\nOrderedDict\nh\x00\x85R0" * 7
    with pytest.raises(CheckpointError, match="more than 8000 steps"):
        read_pickle(b"\x80\x02" + thousand + copies + b"}.", where="x")


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"N0" * 4100 + b"N.", "more than 8000 steps"),
        (b"\x80\x02\x8b" + struct.pack("<i", 2**20) + b"\x7f" * 2**20 + b".", "an integer of 8388607 bits"),
    ],
)
def test_long_programs_and_integers(program, message, few):
    with pytest.raises(CheckpointError, match=message):
        read_pickle(program, where="x")


def test_nothing_in_an_archive_is_unpacked(tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data.pkl", pickle.dumps({}, 2), compress_type=zipfile.ZIP_STORED)
        file.writestr("a/byteorder", bytes(2**24))
    with pytest.raises(CheckpointError, match="is compressed"):
        open_weights(path)


def test_long_lists_of_entries_are_not_read(tmp_path):
    path = tmp_path / "many.pt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", pickle.dumps({}, 2))
        for number in range(90):
            file.writestr(zipfile.ZipInfo(f"a/{number}/" + "x" * 60_000), b"")
    with zipfile.ZipFile(path, "a") as file:
        for number in range(90, 180):
            file.writestr(zipfile.ZipInfo(f"a/{number}/" + "x" * 60_000), b"")
    with pytest.raises(CheckpointError, match=r"the list of what is in it has \d+ bytes, more than 8388608"):
        open_weights(path)


def test_tensors_that_repeat_their_values_fill_no_memory(tmp_path):
    path = tmp_path / "large.pt"
    torch.save({"projector.w": torch.ones(1, 1).expand(2**15, 2**15)}, path)
    with pytest.raises(CheckpointError, match="they repeat the same values"):
        open_weights(path)
    torch.save({"projector.w": torch.ones(1, 1).expand(2**5, 2**5)}, path)
    assert open_weights(path).tensors["projector.w"].shape == (32, 32)


def test_all_shards_share_one_allowance(tmp_path, few):
    program = b"\x80\x02}" + b"N0" * 1400 + b"."
    for number in range(4):
        write_archive(tmp_path / f"{number}.bin", program)
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {f"k{number}": f"{number}.bin" for number in range(2)}}))
    with pytest.raises(CheckpointError, match="do not hold"):
        open_weights(index)
    index.write_text(json.dumps({"weight_map": {f"k{number}": f"{number}.bin" for number in range(4)}}))
    with pytest.raises(CheckpointError, match="more than 8000 steps"):
        open_weights(index)


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ({"k": "model.safetensors.index.json"}, "which is an index and holds no weights"),
        ({"k": "other.index.json"}, "which is an index and holds no weights"),
        ({"k": "../one.safetensors"}, "the bare name of a file beside it"),
        ({"k": "link.safetensors"}, "is a link that leads out of"),
        ({f"k{number}": f"{number}" for number in range(2000)}, "names 2000 shards; expected 1 to 1024"),
        ({}, "names 0 shards"),
    ],
)
def test_an_index_names_shards_beside_it(shards, message, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"k": torch.ones(1)}, tmp_path / "one.safetensors")
    (folder / "link.safetensors").symlink_to(tmp_path / "one.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(CheckpointError, match=message):
        open_weights(index)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", f"{WEIGHTS}.pt"])
def test_a_run_directory_has_its_own_files(name, run_directory, encoder_file, tmp_path):
    folder = run_directory()
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "file"
    shutil.move(folder / name, target)
    (folder / name).symlink_to(target)
    for use in (inspect, load_model):
        with pytest.raises(CheckpointError, match="is a link that leads out of"):
            use(folder)


def test_links_of_the_hubs_cache_lead_to_its_blobs(run_directory, encoder_file, tmp_path):
    repository = tmp_path / "models--someone--thing"
    snapshot = repository / "snapshots" / "abc"
    (snapshot / "checkpoints").mkdir(parents=True)
    (repository / "blobs").mkdir()
    source = run_directory()
    for number, name in enumerate(("config.json", "tokenizer.json", f"{WEIGHTS}.pt")):
        shutil.move(source / name, repository / "blobs" / str(number))
        (snapshot / name).symlink_to(repository / "blobs" / str(number))
    assert inspect(snapshot).problems == ()
    assert load_model(snapshot, vision_source=encoder_file).name == "abc"


def test_a_hub_id_in_a_config_is_no_path(run_directory, tmp_path):
    def change(_, config):
        tower = {"kind": "siglip", "width": 40, "patch": 14, "image_size": 60, "mean": [0.5] * 3, "std": [0.5] * 3,
                 "n_layer": 2, "n_heads": 2, "mlp_width": 40, "hub_id": "/etc/passwd"}  # fmt: skip
        config["emma_viz"]["vision"] = {"backbone_id": "mine", "towers": [tower]}

    with pytest.raises(CheckpointError, match="hub_id"):
        load_model(run_directory(change=change))


@pytest.mark.parametrize(
    ("llm", "message"),
    [
        ({"n_layer": 1_000_000}, "<= 1024"),
        ({"d_model": 10**7}, "<= 131072"),
        ({"d_model": 2**17, "n_layer": 1024}, r"parameters; at most 2e\+12 are read"),
        ({"dt_rank": -5}, ">= 1"),
        ({"norm_eps": "x"}, "Expected `float`, got `str`"),
    ],
)
def test_models_larger_than_any_are_refused_by_their_description(llm, message, run_directory):
    def change(_, config):
        config["emma_viz"]["llm"].update(llm)

    folder = run_directory(change=change)
    for use in (inspect, load_model, load_language_model):
        with pytest.raises(CheckpointError, match=message):
            use(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_length": -1}, ">= 1"),
        ({"lens_form": "evil"}, "Invalid enum value 'evil'"),
        ({"taps": [3, 1]}, "taps must grow"),
        ({"vision": []}, "vision"),
        ({"evil": 1}, "unknown fields 'evil'"),
    ],
)
def test_senseless_descriptions_are_refused(change, message, run_directory):
    folder = run_directory(change=lambda _, config: config["emma_viz"].update(change))
    with pytest.raises(CheckpointError, match=message):
        inspect(folder)
