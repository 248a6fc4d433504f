"""Encoder weights: published layouts onto the towers, positions resampled once, and the project's own files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from emma_viz.checkpoints import save_vision_encoder
from emma_viz.checkpoints.vision import load_vision, require_vision
from emma_viz.errors import CheckpointError, KeyMismatchError
from emma_viz.models import PRESETS
from emma_viz.models.positions import resample_positions
from emma_viz.models.towers.vision import VisionEncoder

OLDER_NAMES = {"q_proj": "attention.query", "k_proj": "attention.key", "v_proj": "attention.value"}


def encoder():
    return VisionEncoder(PRESETS["tiny-cobra"]().vision)


def empty():
    with torch.device("meta"):
        return encoder()


def filled(source, **options):
    target = empty()
    load_vision(target, source, **{"dtype": torch.float32, "device": "cpu", **options})
    return target


def published(module, tmp_path, *, older=False, wrapped=True):
    """Both towers' weights as they are published; returns {tower: folder}."""
    folders = {}
    for kind, tower in module.towers.items():
        state = {key: tensor.clone() for key, tensor in tower.model.state_dict().items()}
        if kind == "dinov2" and older:
            for new, old in OLDER_NAMES.items():
                state = {key.replace(f"attention.{new}", f"attention.{old}"): t for key, t in state.items()}
            state = {key.replace("attention.o_proj", "attention.output.dense"): t for key, t in state.items()}
            assert any("attention.attention.query" in key for key in state)
        if kind == "siglip" and wrapped:
            state = {f"vision_model.{key}": tensor for key, tensor in state.items()}
            state |= {"logit_scale": torch.ones(1), "text_model.head.weight": torch.ones(2, 2)}
            state["vision_model.embeddings.position_ids"] = torch.arange(16)[None]
        folders[kind] = tmp_path / kind
        folders[kind].mkdir()
        save_file(state, folders[kind] / "model.safetensors")
    return folders


def same(one, other):
    state = other.state_dict()
    return all(torch.equal(tensor, state[key]) for key, tensor in one.state_dict().items())


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_published_towers_load(older, wrapped, tmp_path):
    original = encoder()
    loaded = filled(published(original, tmp_path, older=older, wrapped=wrapped))
    assert same(original, loaded)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    pixels = tuple(torch.randn(2, 3, 60, 60) for _ in range(2))
    assert torch.equal(loaded(pixels), original(pixels))


def test_transformers_own_files_load(tmp_path):
    """`save_pretrained` writes the names that the hub has."""
    original = encoder()
    for kind in ("dinov2", "siglip"):
        original.towers[kind].model.save_pretrained(tmp_path / kind)
    assert same(original, filled({kind: tmp_path / kind for kind in ("dinov2", "siglip")}))


@pytest.mark.parametrize(
    ("kind", "name", "prefix"),
    [
        ("dinov2", "embeddings.position_embeddings", 1),
        ("siglip", "vision_model.embeddings.position_embedding.weight", 0),
    ],
)
def test_a_position_table_of_another_grid_is_resampled(kind, name, prefix, tmp_path):
    original = encoder()
    folders = published(original, tmp_path)
    from safetensors.torch import load_file

    path = folders[kind] / "model.safetensors"
    state = load_file(path)
    table = torch.randn(prefix + 7 * 7, state[name].shape[-1])
    save_file({**state, name: table.view(*state[name].shape[:-2], *table.shape)}, path)
    loaded = filled(folders).towers[kind].model.state_dict()[name.removeprefix("vision_model.")]
    assert torch.equal(
        loaded.view(-1, table.shape[1]), resample_positions(table, (7, 7), (4, 4), prefix=prefix)
    )


def test_keys_that_do_not_fit_are_named(tmp_path):
    folders = published(encoder(), tmp_path)
    from safetensors.torch import load_file

    path = folders["dinov2"] / "model.safetensors"
    state = load_file(path)
    state["encoder.layer.1.norm1.gain"] = state.pop("encoder.layer.1.norm1.weight")
    state["layernorm.bias"] = torch.zeros(3)
    save_file(state, path)
    with pytest.raises(KeyMismatchError) as caught:
        filled(folders)
    assert caught.value.missing == ("encoder.layer.1.norm1.weight",)
    assert caught.value.unknown == ("encoder.layer.1.norm1.gain",)
    assert caught.value.misshapen == ("layernorm.bias: (3,), expected (24,)",)


@pytest.mark.parametrize(
    ("dtype", "said"),
    [
        (torch.int64, "integers (int64)"),
        (torch.bool, "integers (bool)"),
        (torch.complex64, "complex numbers (complex64)"),
        (torch.float8_e4m3fn, "quantised numbers (float8_e4m3fn)"),
    ],
)
@pytest.mark.parametrize("place", ["tower", "own file"])
def test_encoders_hold_real_numbers(dtype, said, place, tmp_path):
    """By what looks at files before a model is built, too."""
    from safetensors.torch import load_file

    if place == "tower":
        key, source = "layernorm.bias", published(encoder(), tmp_path)
        path = source["dinov2"] / "model.safetensors"
    else:
        key = "towers.dinov2.model.layernorm.bias"
        source = path = save_vision_encoder(tmp_path / "encoder.safetensors", encoder())
    state = load_file(path)
    save_file({**state, key: state[key].to(dtype)}, path)
    for use in (filled, lambda source: require_vision(encoder().config, source)):
        with pytest.raises(KeyMismatchError) as caught:
            use(source)
        assert caught.value.misshapen == (f"{key}: {said}, expected bfloat16, float16, float32 or float64",)


def test_a_position_table_that_is_resampled_holds_real_numbers(tmp_path):
    from safetensors.torch import load_file

    folders = published(encoder(), tmp_path)
    path, name = folders["dinov2"] / "model.safetensors", "embeddings.position_embeddings"
    state = load_file(path)
    table = torch.zeros(1, 1 + 7 * 7, state[name].shape[-1], dtype=torch.int64)
    save_file({**state, name: table}, path)
    with pytest.raises(KeyMismatchError, match=r"position_embeddings: integers \(int64\)"):
        filled(folders)


def test_a_tower_that_the_model_lacks(tmp_path):
    folders = published(encoder(), tmp_path)
    with pytest.raises(CheckpointError, match="names clip; this model's towers are dinov2, siglip"):
        filled({**folders, "clip": tmp_path})
    with pytest.raises(CheckpointError, match="has none of the weights"):
        filled({**folders, "siglip": tmp_path})
    with pytest.raises(CheckpointError, match="There is no "):
        filled({**folders, "siglip": "nothing here"})


@pytest.mark.parametrize("named", ["towers/model.safetensors", "towers/my/siglip", "./siglip"])
def test_a_misspelt_path_of_a_tower_is_no_hub_id(named, tmp_path):
    folders = published(encoder(), tmp_path)
    with pytest.raises(
        CheckpointError, match=rf"There is no {Path(named)} for the siglip tower\. Pass its weight"
    ):
        filled({**folders, "siglip": named})
    with pytest.raises(
        CheckpointError, match="There is no towers/siglip, and as a hub id it cannot be had: "
    ):
        filled({**folders, "siglip": "towers/siglip"})


def test_an_encoder_file_comes_back(tmp_path):
    original = encoder()
    path = save_vision_encoder(tmp_path / "deep" / "encoder.safetensors", original, dtype="float16")
    loaded = filled(path)
    for key, tensor in original.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor.half().float())
    other = VisionEncoder(PRESETS["cobra-pocket"]().vision)
    with pytest.raises(KeyMismatchError, match="Expected the encoder tiny-dinosiglip-60px"):
        filled(save_vision_encoder(path, other))


def test_a_pocket_encoder_with_its_buffers(tmp_path):
    """Batch-norm statistics are floats that follow the type; the batch counters stay integers."""
    config = PRESETS["cobra-pocket"]().vision
    original = VisionEncoder(config)
    for name, buffer in original.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
        if name.endswith("num_batches_tracked"):
            buffer.fill_(7)
    path = save_vision_encoder(tmp_path / "pocket.safetensors", original)
    with torch.device("meta"):
        target = VisionEncoder(config)
    load_vision(target, path, dtype=torch.float32, device="cpu")
    assert same(original, target)
    counters = [buffer for name, buffer in target.named_buffers() if name.endswith("tracked")]
    assert counters
    assert {buffer.dtype for buffer in counters} == {torch.int64}
    pixels = (torch.randn(1, 3, 128, 128),)
    assert torch.equal(target(pixels), original(pixels))


def test_the_bundled_encoder_is_found_by_its_id(tmp_path, monkeypatch):
    from emma_viz.checkpoints import vision

    monkeypatch.setattr(vision, "BUNDLED", tmp_path)
    original = encoder()
    with pytest.raises(CheckpointError, match="no published weights"):
        filled(None)
    save_vision_encoder(tmp_path / "tiny-dinosiglip-60px.safetensors", original)
    assert same(original, filled(None))


@pytest.mark.parametrize("form", ["absolute", "relative"])
def test_an_encoder_whose_id_is_a_path_is_none_that_ships(tmp_path, monkeypatch, form):
    from emma_viz.checkpoints import vision

    monkeypatch.setattr(vision, "BUNDLED", tmp_path / "bundled")
    (tmp_path / "bundled").mkdir()
    save_vision_encoder(tmp_path / "private.safetensors", encoder())
    named = str(tmp_path / "private") if form == "absolute" else "../private"
    config = replace(encoder().config, backbone_id=named)
    assert vision.bundled_encoder(config) is None


def test_a_sharded_tower(tmp_path):
    original = encoder()
    folders = published(original, tmp_path, wrapped=False)
    from safetensors.torch import load_file

    path = folders["siglip"] / "model.safetensors"
    state = load_file(path)
    names = list(state)
    weight_map = {name: f"{number % 2}.safetensors" for number, name in enumerate(names)}
    for shard in set(weight_map.values()):
        save_file({name: state[name] for name in names if weight_map[name] == shard}, path.with_name(shard))
    path.with_name("model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    path.unlink()
    assert same(original, filled(folders))
