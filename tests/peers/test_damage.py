"""One thing of a folder is damaged, and loading says so with an error of this package."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from emma_viz.capture import record
from emma_viz.checkpoints import inspect, load_model, require_model
from emma_viz.errors import CheckpointError, KeyMismatchError
from tests.peers.checkpoints import write

pytestmark = pytest.mark.slow  # the package's models take seconds to import

WEIGHTS = "model.safetensors"


def _copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / folder.name))


def _put(folder: Path, values: dict, name: str = WEIGHTS) -> None:
    save_file(values, folder / name, metadata={"format": "pt"})


def _weights(change):
    def damage(folder: Path) -> None:
        values = load_file(folder / WEIGHTS)
        _put(folder, {key: value.clone() for key, value in change(values).items()})

    return damage


def _json(name: str, change):
    def damage(folder: Path) -> None:
        path = folder / name
        values = json.loads(path.read_text()) if path.is_file() else {}
        change(values)
        path.write_text(json.dumps(values))

    return damage


def _text(name: str, text: str):
    return lambda folder: (folder / name).write_text(text)


def _first(values: dict, part: str) -> str:
    return next(key for key in values if part in key)


def _set(values: dict, part: str, value) -> dict:
    key = _first(values, part)
    values[key] = value(values[key])
    return values


def _nan(value: torch.Tensor) -> torch.Tensor:
    value.view(-1)[1] = float("nan")
    return value


def _typed(dtype: torch.dtype):
    return _weights(lambda values: _set(values, "layers.0", lambda value: value.to(dtype)))


def _index(folder: Path) -> None:
    values = load_file(folder / WEIGHTS)
    _put(
        folder,
        {key: torch.zeros_like(value) for key, value in values.items()},
        "z-00001-of-00001.safetensors",
    )
    weight_map = dict.fromkeys(values, "z-00001-of-00001.safetensors")
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def _link_out(folder: Path) -> None:
    away = folder.parent / "away.safetensors"
    (folder / WEIGHTS).rename(away)
    (folder / WEIGHTS).symlink_to(away)


def _cut(folder: Path) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DEEP = '{"x":' + "[" * 5000 + "]" * 5000 + "}"
PATTERN = {"type": "Replace", "pattern": {"Regex": "(x+x+)+y"}, "content": "z"}
SPLIT = {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated", "invert": False}

DAMAGES = {
    "a block of weights is missing": (
        _weights(lambda v: {k: e for k, e in v.items() if not ("language" in k and ".layers.1." in k)}),
        r"missing \(9\)",
    ),
    "all keys have other names": (
        _weights(lambda v: {f"other.{k}": e for k, e in v.items()}), r"missing \(\d+\)[\s\S]*unknown \(\d+\)"
    ),
    "a key more": (_weights(lambda v: {**v, "extra.weight": torch.ones(2)}), r"unknown \(1\):\s+extra.weight"),
    "a weight of another shape": (
        _weights(lambda v: _set(v, "layers.0", lambda e: torch.zeros(3, 3))), "wrong shape or type"
    ),
    "a weight that is not a number": (_weights(lambda v: _set(v, "layers.0", _nan)), "not finite"),
    "a file that ends early": (_cut, "safetensors"),
    "an index beside the file": (_index, "has both"),
    "a link out of the folder": (_link_out, "leads out of"),
    "weights elsewhere": (
        _json("config.json", lambda c: c.update(transformers_weights="z.safetensors")), "transformers_weights"
    ),
    "quantised": (_json("config.json", lambda c: c.update(quantization_config={"bits": 4})), "quantization_config"),
    "8-bit floats": (_typed(torch.float8_e4m3fn), r"quantised numbers \(float8_e4m3fn\)[\s\S]*weights are quantised"),
    "a weight of integers": (_typed(torch.int64), r"layers\.0.*: integers \(int64\), expected bfloat16"),
    "a weight of complex numbers": (_typed(torch.complex64), r"layers\.0.*: complex numbers \(complex64\)"),
    "an adapter": (_text("adapter_config.json", "{}"), "holds an adapter"),
    "patches of no size": (_json("config.json", lambda c: c["vision_config"].update(patch_size=0)), "transformers"),
    "a width in words": (_json("config.json", lambda c: c["text_config"].update(hidden_size="wide")), "transformers"),
    "a negative width": (_json("config.json", lambda c: c["text_config"].update(hidden_size=-4)), "transformers"),
    "no heads": (_json("config.json", lambda c: c["text_config"].update(num_attention_heads=0)), "transformers"),
    "an image token that is none": (
        _json("config.json", lambda c: c.update(image_token_id=9999, image_token_index=9999)), "image_token_id"
    ),
    "a deep config": (_text("config.json", '{"model_type": "llava", ' + DEEP[1:]), "nested more than"),
    "a deep tokenizer_config": (_text("tokenizer_config.json", DEEP), "nested more than"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer.json"),
    "a tokenizer that is none": (_text("tokenizer.json", '{"model": {"type": "BPE"}}'), "transformers"),
    "a normaliser's own pattern": (_json("tokenizer.json", lambda c: c.update(normalizer=PATTERN)), "by a pattern"),
    "a splitter's own pattern": (_json("tokenizer.json", lambda c: c.update(pre_tokenizer=SPLIT)), "by a pattern"),
    "a size in words": (_json("preprocessor_config.json", lambda c: c.update(size="big")), "transformers|names"),
    "penalty in words": (
        _json("generation_config.json", lambda c: c.update(repetition_penalty="much")), "repetition_penalty"
    ),
    "words forbidden in words": (
        _json("generation_config.json", lambda c: c.update(bad_words_ids=["rude"])), "bad_words_ids"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    """A folder that loads."""
    folder = tmp_path_factory.mktemp("whole") / "tiny-llava"
    write("llava", folder)
    load_model(folder)
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_refused_with_a_sentence(llava, tmp_path, damage):
    folder = _copied(llava, tmp_path)
    harm, said = DAMAGES[damage]
    harm(folder)
    with pytest.raises(CheckpointError, match=said):
        load_model(folder)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int64, torch.complex64])
@pytest.mark.parametrize("said_so", [False, True])
def test_weights_of_other_types_are_named_by_inspect(llava, tmp_path, dtype, said_so):
    folder = _copied(llava, tmp_path)
    _weights(lambda values: {key: value.to(dtype) for key, value in values.items()})(folder)
    if said_so:
        DAMAGES["quantised"][0](folder)
    found = inspect(folder)
    assert found.fingerprint is None
    assert any(f"({str(dtype).removeprefix('torch.')}), expected" in problem for problem in found.problems)
    assert any("quantization_config" in problem for problem in found.problems) == said_so
    with pytest.raises(CheckpointError, match="quantization_config" if said_so else "expected bfloat16"):
        require_model(folder)


def test_buffers_that_count_are_integers(llava, tmp_path):
    folder = _copied(llava, tmp_path)
    key = "model.vision_tower.vision_model.embeddings.position_ids"
    _weights(lambda values: {**values, key: torch.arange(5)})(folder)
    assert inspect(folder).problems == ()
    require_model(folder)


def test_a_device_without_room_is_told_in_a_sentence(llava, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("transformers.PreTrainedModel.to", full)
    with pytest.raises(CheckpointError, match="no memory left on cpu for its weights: CUDA out of memory"):
        load_model(llava)


def test_every_family_refuses_a_missing_weight(peer, tmp_path):
    _, model = peer
    assert model.folder is not None
    folder = _copied(model.folder, tmp_path)
    values = load_file(folder / WEIGHTS)
    gone = next(key for key in values if ".layers.1." in key and "mlp" in key and "vision" not in key)
    _put(folder, {key: value for key, value in values.items() if key != gone})
    with pytest.raises(KeyMismatchError) as refused:
        load_model(folder)
    assert len(refused.value.missing) == 1
    assert refused.value.missing[0].endswith(gone.rpartition("layers.1.")[2])


def test_the_fingerprint_is_of_the_weights_that_run(llava, tmp_path):
    """Of each of them, the head and the encoder too, in a file or in shards, loaded or looked at."""
    marks = {load_model(llava).info.fingerprint}
    assert {inspect(llava).fingerprint, require_model(llava)[1].info.fingerprint} == marks
    for part in ("lm_head", "vision", "projector", "layers.2.mlp"):
        folder = _copied(llava, tmp_path / part)
        _weights(lambda values, part=part: _set(values, part, lambda value: value + 1))(folder)
        marks.add(load_model(folder).info.fingerprint)
    assert len(marks) == 5
    folder = _copied(llava, tmp_path)
    values = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(values)
    weight_map = {}
    for number, part in enumerate((names[:20], names[20:]), start=1):
        shard = f"model-{number:05d}-of-00002.safetensors"
        _put(folder, {name: values[name] for name in part}, shard)
        weight_map |= dict.fromkeys(part, shard)
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert load_model(folder).info.fingerprint in marks


def test_the_fingerprint_follows_weights_that_are_changed_in_memory(llava):
    model = load_model(llava)
    first = model.info.fingerprint
    for part in ("lm_head", "vision", "projector", "layers.2.mlp"):
        weight = next(each for name, each in model.peer.network.named_parameters() if part in name)
        with torch.no_grad():
            kept = weight.clone()
            weight += 1
            assert model.info.fingerprint != first, part
            assert record(model, None, "Why?", generate=False).model == model.info
            weight.copy_(kept)
            assert model.info.fingerprint == first, part


def test_a_folder_is_found_however_it_is_named(llava, monkeypatch):
    """By `~`, by a file: address, by its weights; by loading, requiring and inspecting."""
    monkeypatch.setenv("HOME", str(llava.parent))
    mark = load_model(llava).info.fingerprint
    for name in (f"~/{llava.name}", llava.as_uri(), str(llava / WEIGHTS)):
        assert load_model(name).info.fingerprint == mark
        assert require_model(name)[1].info.fingerprint == mark
        found = inspect(name)
        assert (found.fingerprint, found.problems) == (mark, ())
        assert "llava-hf: llava, run by transformers' own class" in found.to_text()


def test_half_precision_stays_on_a_cpu_but_for_float16(llava, tmp_path):
    for kind, loaded in (("bfloat16", "bfloat16"), ("float16", "float32")):
        folder = _copied(llava, tmp_path / kind)
        _weights(lambda v, kind=kind: {k: e.to(getattr(torch, kind)) for k, e in v.items()})(folder)
        model = load_model(folder)
        assert model.info.dtype == loaded
        assert {str(each.dtype) for each in model.peer.network.parameters()} == {f"torch.{loaded}"}
